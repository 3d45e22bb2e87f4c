"""The recurrent family's cases: a size is a hidden size."""

from __future__ import annotations

from kernels.recurrent.cell import GRU, LSTM, Cell
from kernels.recurrent.kernel import UNITS_PER_BLOCK, recurrent_buffers, recurrent_source, recurrent_texts, reference
from kernels.recurrent.text import RecurrentText
from tests.cuda.case import Arrays, Bounds, BufferUse, Case, Problem

SMALL = 64  # hidden sizes below are simulated: few units a block, so that there are several blocks
WORKSPACES = ("exchange", "counter")


def texts(cell: Cell, hidden: int, batch: int) -> dict[str, RecurrentText]:
    """Return the texts of a test's size."""
    return recurrent_texts(cell, hidden, batch, units=2 if hidden < SMALL else UNITS_PER_BLOCK)


def problem(cell: Cell, hidden: int, batch: int, steps: int) -> Problem:
    """Return a layer as a test problem; weights are drawn so that gates neither saturate nor vanish."""
    by_form = texts(cell, hidden, batch)
    any_text = by_form["scalar"]
    grid = (any_text.blocks, any_text.threads)

    def expected(arrays: Arrays) -> list:
        return reference(cell, hidden, batch, steps, arrays)

    return Problem(
        buffers=tuple(
            BufferUse(
                name=buffer.name,
                dtype=buffer.dtype,
                elements=buffer.elements,
                drawn=not buffer.written,
                value=0 if buffer.name == "counter" else None,
                scale=hidden**-0.5 if buffer.name == "weights" else 1.0,
                compared=buffer.name not in WORKSPACES,
            )
            for buffer in recurrent_buffers(cell, hidden, batch, steps)
        ),
        sources={form: recurrent_source(text) for form, text in by_form.items()},
        expected=expected,
        grids=(grid,),
        device_grid=grid,
        scalars=(steps,),
    )


def case(cell: Cell, batch: int, steps: int, device_size: int = 256, **bounds: Bounds) -> Case:
    """Return a layer at one batch as a case of all tiers."""
    return Case(
        name=f"recurrent-{cell.name}-batch-{batch}",
        problem=lambda hidden: problem(cell, hidden, batch, steps),
        sizes=(5, 4, 8),
        device_size=device_size,
        bounds=bounds,
        tolerance=5e-6,
        specials=False,
    )


def bounds(registers: int, loads: int) -> Bounds:
    """Return bounds of a kernel that loads its weights once, then one vector of hidden values a step."""
    return Bounds(registers, loads, proportional=False)


CASES = (
    case(LSTM, 1, 3, wide=bounds(72, 9), scalar=bounds(72, 0)),
    case(GRU, 3, 3, wide=bounds(80, 7), scalar=bounds(72, 0)),
)
