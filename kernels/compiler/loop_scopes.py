"""Alias scopes for a loop's kernel: two operands that may ever share a byte, in whatever trips, share a scope.

All statements become one function, in which LLVM takes the scopes at their word: those of one statement are not enough.
"""

from __future__ import annotations

from kernels.compiler.loop_ir import Fused, LoopProgram
from kernels.compiler.loop_verify import operands

READ_ONLY = 0
"""Of all memory that the loop only reads."""


def alias_scopes(program: LoopProgram) -> tuple[tuple[int, ...], ...]:
    """Return the scope of each operand of each statement, prologue first; of a fused one that of its tile as well."""
    spans = _spans(program)
    merged = _merged(sorted({span for row in spans for span in row if span is not None}))
    rows = [[READ_ONLY if span is None else _scope(merged, span) for span in row] for row in spans]
    tile = READ_ONLY + 1 + len(merged)
    for row, statement in zip(rows, (*program.prologue, *program.body), strict=True):
        if isinstance(statement, Fused):
            row.append(tile)
            tile += 1
    return tuple(tuple(row) for row in rows)


Span = tuple[int, int, int]
"""A buffer, and the first byte and the end of what an operand touches of it over all trips."""


def _spans(program: LoopProgram) -> list[list[Span | None]]:
    rows = []
    for position, statement in enumerate((*program.prologue, *program.body)):
        trips = (-1,) if position < len(program.prologue) else range(program.trips)
        row: list[Span | None] = []
        for operand in operands(statement):
            window = operand.window
            begins = [window.begin(trip) for trip in trips]
            span = (window.buffer, min(begins), max(begins) + operand.nbytes)
            row.append(span if program.buffers[window.buffer].written else None)
        rows.append(row)
    return rows


def _merged(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for buffer, begin, end in spans:
        if merged and merged[-1][0] == buffer and begin < merged[-1][2]:
            merged[-1] = (buffer, merged[-1][1], max(end, merged[-1][2]))
        else:
            merged.append((buffer, begin, end))
    return merged


def _scope(merged: list[Span], span: Span) -> int:
    found = next(k for k, (buffer, begin, end) in enumerate(merged) if buffer == span[0] and begin <= span[1] < end)
    return READ_ONLY + 1 + found
