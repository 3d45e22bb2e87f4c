"""The arena never gives one byte to two tensors that are alive at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optimizers.fusion.graph import ITEM_BYTES, references_in
from optimizers.fusion.memory import ALIGNMENT, Memory, Slot, plan_arena
from optimizers.fusion.program import Program
from tests.optimizers.fusion.interpreted import Function, fused_module
from tests.optimizers.fusion.test_module import Recurrent

_USES = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 20), st.integers(0, 6)), max_size=25)


@given(_USES)
def test_slots_that_live_at_the_same_time_never_overlap(uses: list[tuple[int, int, int]]) -> None:
    memories = {
        Memory("arena", k, "float32"): (size, first, first + more) for k, (size, first, more) in enumerate(uses)
    }
    slots, total = plan_arena(memories)
    assert {slot.memory for slot in slots} == set(memories)
    for slot in slots:
        size, first, last = memories[slot.memory]
        assert slot.nbytes >= size and (slot.first, slot.last) == (first, last)
        assert slot.offset % ALIGNMENT == 0 and slot.offset + slot.nbytes <= total
    assert not list(_clashes(slots))


def test_memory_is_reused_once_it_is_dead() -> None:
    memories = {Memory("arena", k, "float32"): (4096, 2 * k, 2 * k + 1) for k in range(50)}
    assert plan_arena(memories)[1] == 4096


def _clashes(slots: tuple[Slot, ...]) -> Iterator[tuple[Slot, Slot]]:
    for position, one in enumerate(slots):
        for other in slots[:position]:
            at_once = one.first <= other.last and other.first <= one.last
            if at_once and one.offset < other.offset + other.nbytes and other.offset < one.offset + one.nbytes:
                yield one, other


def _branches(x: torch.Tensor, w: torch.Tensor) -> Any:
    a = torch.tanh(x) @ w
    b = torch.sigmoid(a) @ w + a
    c = torch.cat([a, b.exp()], dim=1)
    return c.sum(1), (b @ w).tanh() * a, torch.stack([a, b])


@pytest.mark.parametrize(
    ("model", "args"),
    [
        (Recurrent(5, 6), (torch.randn(3, 7, 5),)),
        (Function(_branches, w=torch.randn(4, 4)), (torch.randn(3, 4),)),
        (
            torch.nn.Sequential(*(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.GELU()) for _ in range(6))),
            (torch.randn(2, 4),),
        ),
    ],
)
def test_programs_read_only_what_is_still_there(model: torch.nn.Module, args: tuple[Any, ...]) -> None:
    """Lifetimes are derived again from the program's steps, byte by byte."""
    program = fused_module(model, args).runner.program
    owner: dict[int, Memory] = {}
    offsets = {slot.memory: slot.offset for slot in program.slots}
    for memory in (program.places.places[staged].memory for staged in program.staged):
        _write(program, memory, offsets, owner)
    for unit in program.units:
        if unit.kind == "group":
            bound = program.bounds[unit.number]
            buffers = list(zip(bound.region.buffers, (memory for memory, _ in bound.memories), strict=True))
            read = [memory for buffer, memory in buffers if not buffer.written]
            written = [memory for buffer, memory in buffers if buffer.written]
        else:
            call = program.lowered.calls[unit.number]
            read = [program.places.places[r.source].memory for r in program.lowered.call_inputs(call)]
            written = [program.places.places[index].memory for index in call.results if index in program.places.places]
        for memory in read:
            _check(program, memory, offsets, owner)
        for memory in written:
            _write(program, memory, offsets, owner)
        # What a step writes must not have replaced what it reads.
        for memory in read:
            _check(program, memory, offsets, owner)
    for reference in references_in(program.lowered.outputs):
        _check(program, program.places.places[reference.source].memory, offsets, owner)


def _bytes(program: Program, memory: Memory, offsets: dict[Memory, int]) -> range:
    if memory.kind != "arena":
        return range(0)
    size = program.lowered.definitions[memory.number].numel * ITEM_BYTES[memory.dtype]
    return range(offsets[memory], offsets[memory] + size)


def _write(program: Program, memory: Memory, offsets: dict[Memory, int], owner: dict[int, Memory]) -> None:
    owner.update(dict.fromkeys(_bytes(program, memory, offsets), memory))


def _check(program: Program, memory: Memory, offsets: dict[Memory, int], owner: dict[int, Memory]) -> None:
    assert all(owner.get(byte) == memory for byte in _bytes(program, memory, offsets)), f"{memory} was overwritten"
