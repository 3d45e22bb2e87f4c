"""Random programs of typed ops, odd shapes, any strides and special values equal eager; their memory never clashes.

HOTBENCH_EXAMPLES sets how many are drawn, by default a few: each compiled one takes a second or more.
"""

from __future__ import annotations

import dataclasses
import os
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.compiler.ir import IrError
from optimizers.fusion.api import build
from optimizers.fusion.capture import UnfusableError, capture
from optimizers.fusion.memory_verify import verify_memory
from optimizers.fusion.module import FusedModule
from optimizers.fusion.program import Program
from optimizers.fusion.runtime import Runner
from tests.optimizers.fusion.interpreted import Function, fused_module
from tests.optimizers.fusion.test_module import Recurrent
from tests.optimizers.fusion.test_random_programs import RandomProgram
from tests.optimizers.fusion.typed_programs import EXTENTS, FLOATS, INTEGERS, TypedProgram, drawn_input

EXAMPLES = int(os.environ.get("HOTBENCH_EXAMPLES", "40"))


@pytest.fixture(autouse=True, scope="module")
def no_gradients() -> Any:
    with torch.no_grad():
        yield


def inputs(seed: int, extents: list[int], specials: bool) -> tuple[torch.Tensor, ...]:
    draw = random.Random(seed)
    a, b, c = extents
    shapes = ((a, b, c), (b, c), (c,), (a, 1, c))
    dtypes = [draw.choice((*FLOATS, *INTEGERS, torch.bool)) for _ in shapes]
    return tuple(drawn_input(draw, dtype, shape, specials) for dtype, shape in zip(dtypes, shapes, strict=True))


def equal(got: torch.Tensor, wanted: torch.Tensor) -> None:
    """Fail unless dtype and shape are equal, integers and bools exactly, floats up to rounding, NaN where it is."""
    assert got.dtype == wanted.dtype and got.shape == wanted.shape
    if wanted.dtype not in FLOATS:
        assert torch.equal(got, wanted), (got, wanted)
        return
    rough = 1e-5 if wanted.dtype == torch.float32 else 1e-12
    torch.testing.assert_close(got, wanted, rtol=rough, atol=rough, equal_nan=True)


def check(seed: int, steps: int, extents: list[int], reductions: bool, compiled: bool) -> None:
    # Sums of huge integers wrap alike in any order; sums of float specials are drawn without huge ones.
    args = inputs(seed, extents, specials=True)
    model = Function(TypedProgram(seed, steps, reductions))
    wanted = model(*args)
    if compiled:
        captured = capture(model, args, {})
        try:
            program, kernels = build(captured)
        except UnfusableError as error:
            assert "nothing to fuse" in str(error)
            return
        fused = FusedModule(model, captured, Runner(program, kernels))
    else:
        fused = fused_module(model, args)
    verify_memory(fused.runner.program)
    for _ in range(2):
        for got, expected in zip(fused(*args), wanted, strict=True):
            equal(got, expected)
    assert not fused.fallbacks


CASES = (st.integers(0, 10**9), st.integers(1, 14), st.lists(st.sampled_from(EXTENTS), min_size=3, max_size=3))


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(*CASES, st.booleans())
def test_typed_program_equals_eager(seed: int, steps: int, extents: list[int], reductions: bool) -> None:
    check(seed, steps, extents, reductions, compiled=False)


@settings(max_examples=max(3, EXAMPLES // 13), deadline=None, derandomize=True)
@given(*CASES, st.booleans())
def test_compiled_typed_program_equals_eager(seed: int, steps: int, extents: list[int], reductions: bool) -> None:
    check(seed, steps, extents, reductions, compiled=True)


@settings(max_examples=EXAMPLES // 2, deadline=None, derandomize=True)
@given(st.integers(0, 10**9), st.integers(5, 30), st.booleans())
def test_live_buffers_never_share_a_byte(seed: int, steps: int, recurrent: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    args: tuple[torch.Tensor, ...]
    if recurrent:
        model: torch.nn.Module = Recurrent(3, 1 + steps % 5)
        args = (torch.randn(2, 4, 3, generator=generator),)
    else:
        model = Function(RandomProgram(seed, steps))
        args = tuple(torch.randn(shape, generator=generator) for shape in ((2, 3, 4), (3, 4), (4, 1)))
    verify_memory(fused_module(model, args, rolled=recurrent).runner.program)


def chained(x: torch.Tensor, w: torch.Tensor) -> Any:
    a = torch.tanh(x) @ w
    b = torch.sigmoid(a) @ w + a
    return (b @ w).tanh() * a, torch.cat([a, b.exp()], 1).sum(1)


@pytest.fixture(scope="module")
def program() -> Program:
    found: Program = fused_module(Function(chained, w=torch.randn(16, 16)), (torch.randn(8, 16),)).runner.program
    verify_memory(found)
    assert len(found.slots) >= 3 and len(found.units) >= 4
    return found


def moved(program: Program, position: int, offset: int) -> Program:
    slots = list(program.slots)
    slots[position] = dataclasses.replace(slots[position], offset=offset)
    return dataclasses.replace(program, slots=tuple(slots))


def test_a_slot_on_another_that_the_same_step_touches_is_refused(program: Program) -> None:
    places = {slot.memory: position for position, slot in enumerate(program.slots)}
    refused = 0
    for bound in program.bounds.values():
        touched = [memory for memory, _ in bound.memories if memory.kind == "arena"]
        for one in touched:
            for other in touched:
                size = program.slots[places[one]].nbytes
                offset = program.slots[places[other]].offset
                if one is not other and offset + size <= program.arena_bytes:
                    with pytest.raises(IrError, match="share bytes of the arena while both are alive"):
                        verify_memory(moved(program, places[one], offset))
                    refused += 1
    assert refused


def test_a_slot_outside_of_the_arena_or_off_its_alignment_is_refused(program: Program) -> None:
    with pytest.raises(IrError, match="outside of the arena"):
        verify_memory(moved(program, 0, program.arena_bytes))
    with pytest.raises(IrError, match="outside of the arena"):
        verify_memory(moved(program, 0, -64))
    with pytest.raises(IrError, match="outside of the arena"):
        verify_memory(dataclasses.replace(program, slots=program.slots[1:]))
    with pytest.raises(IrError, match="off its alignment|share bytes"):
        verify_memory(dataclasses.replace(moved(program, 0, program.arena_bytes + 4), arena_bytes=10**6))


def test_a_step_too_early_or_missing_is_refused(program: Program) -> None:
    for position in range(len(program.units) - 1):
        missing = program.units[:position] + program.units[position + 1 :]
        with pytest.raises(IrError, match="before anything is written there"):
            verify_memory(dataclasses.replace(program, units=missing))
    with pytest.raises(IrError, match="before anything is written there"):
        verify_memory(dataclasses.replace(program, units=program.units[::-1]))
