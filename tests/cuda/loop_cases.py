"""Loops of the compiler as persistent kernels: a size is a hidden size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kernels.compiler.loop_ir import LoopProgram
from kernels.recurrent.loop_kernel import loop_buffers, loop_reference, loop_source, loop_text
from tests.cuda.case import Arrays, Bounds, BufferUse, Case, Problem
from tests.cuda.loop_programs import lstm_stack, several_steps

SMALL = 32  # hidden sizes below are simulated: one unit a block


def problem(program: LoopProgram, warps: int) -> Problem:
    """Return a loop as a test problem; weights are drawn so that gates neither saturate nor vanish."""
    text = loop_text(program, warps)
    counter = BufferUse("counter", "uint32", 1, False, value=0, compared=False)
    buffers = tuple(
        BufferUse(
            name=buffer.name,
            dtype="float32",
            elements=buffer.elements // 4,
            drawn=not buffer.written,
            scale=(buffer.elements // 4) ** -0.25 if "w" in buffer.name else 1.0,
            compared=buffer.name != "scratch",
        )
        for buffer in loop_buffers(program)[:-1]
    )

    def expected(arrays: Arrays) -> list[np.ndarray]:
        return [*loop_reference(program, arrays[:-1]), arrays[-1]]

    grid = (text.blocks, text.threads)
    source = loop_source(text)
    return Problem((*buffers, counter), {"scalar": source}, expected, grids=(grid,), device_grid=grid)


def case(name: str, program: Callable[[int], LoopProgram], registers: int, device_size: int = 36) -> Case:
    """Return a loop as a case of all tiers."""
    return Case(
        name=f"loop-{name}",
        problem=lambda hidden: problem(program(hidden), 1 if hidden < SMALL else 8),
        sizes=(3, 2),
        device_size=device_size,
        bounds={"scalar": Bounds(registers, proportional=False)},
        tolerance=5e-6,
        specials=False,
    )


CASES = (
    case("lstm-wavefront", lambda hidden: lstm_stack(2, hidden, 6, 3), 128),
    case("several-steps", lambda hidden: several_steps(hidden, 3, 2), 64),
)
