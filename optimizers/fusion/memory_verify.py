"""The rules of a program's memory, checked before it runs: what a step reads is there, and nobody else's.

Lifetimes are derived anew from what the steps do, not from what the planner took them to be.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kernels.compiler.ir import IrError
from optimizers.fusion.graph import references_in
from optimizers.fusion.memory import ALIGNMENT, Memory, memory_bytes
from optimizers.fusion.schedule import Unit

if TYPE_CHECKING:
    from optimizers.fusion.program import Program


def verify_memory(program: Program) -> None:
    """Return nothing if every step reads what was written before; raise IrError, in a line, on the first fault.

    Also where two memories that are alive at one step share a byte of the arena, or one lies outside of it.
    """
    slots = {slot.memory: slot for slot in program.slots}
    alive: dict[Memory, list[int]] = {}
    for index in program.staged:
        alive.setdefault(program.places.places[index].memory, [-1, -1])
    for step, unit in enumerate(program.units):
        for memory in _read(program, unit):
            _note_read(alive, memory, step, f"step {step}")
        for memory in _written(program, unit):
            if memory.kind in ("arena", "output"):
                alive.setdefault(memory, [step, step])[1] = step
    for reference in references_in(program.lowered.outputs):
        _note_read(alive, program.places.places[reference.source].memory, len(program.units), "the result")
    placed = []
    for memory, (first, last) in alive.items():
        if memory.kind != "arena":
            continue
        slot, nbytes = slots.get(memory), memory_bytes(program.lowered.definitions[memory.number])
        if slot is None or slot.offset < 0 or slot.offset + nbytes > program.arena_bytes:
            raise IrError(f"{_named(memory)} lies outside of the arena of {program.arena_bytes} bytes")
        if slot.offset % ALIGNMENT:
            raise IrError(f"{_named(memory)} begins at byte {slot.offset} of the arena, off its alignment")
        placed.append((slot.offset, slot.offset + nbytes, first, last, memory))
    _check_apart(sorted(placed, key=lambda item: item[:4]))


def _note_read(alive: dict[Memory, list[int]], memory: Memory, step: int, name: str) -> None:
    if memory.kind not in ("arena", "output"):
        return
    if memory not in alive:
        raise IrError(f"{name} reads {_named(memory)} before anything is written there")
    alive[memory][1] = step


def _read(program: Program, unit: Unit) -> Iterator[Memory]:
    if unit.kind == "group":
        bound = program.bounds[unit.number]
        stored = {memory for memory, written in _touched(program, unit) if written}
        for memory, _ in bound.memories:
            if memory not in stored:
                yield memory
        return
    for reference in program.lowered.call_inputs(program.lowered.calls[unit.number]):
        yield program.places.places[reference.source].memory


def _written(program: Program, unit: Unit) -> Iterator[Memory]:
    if unit.kind == "group":
        yield from (memory for memory, written in _touched(program, unit) if written)
        return
    call = program.lowered.calls[unit.number]
    for index in (*call.results, *call.slices):
        if index is not None and index in program.places.places:
            yield program.places.places[index].memory


def _touched(program: Program, unit: Unit) -> Iterator[tuple[Memory, bool]]:
    bound = program.bounds[unit.number]
    for (memory, _), buffer in zip(bound.memories, bound.region.buffers, strict=True):
        yield memory, buffer.written


def _check_apart(placed: list[tuple[int, int, int, int, Memory]]) -> None:
    """Raise IrError where two share a byte while both are alive. placed: first byte, end, first and last step."""
    open_ends: list[tuple[int, int, int, int, Memory]] = []
    for item in placed:
        begin, _, first, last, memory = item
        open_ends = [other for other in open_ends if other[1] > begin]
        for other in open_ends:
            if other[2] <= last and first <= other[3]:
                raise IrError(f"{_named(other[4])} and {_named(memory)} share bytes of the arena while both are alive")
        open_ends.append(item)


def _named(memory: Memory) -> str:
    return f"definition {memory.number} ({memory.kind})"
