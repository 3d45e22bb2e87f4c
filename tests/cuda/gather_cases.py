"""The gather family's cases: what is copied where, by one launch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kernels.transfer import gather
from kernels.transfer.segment_table import Table
from tests.cuda.case import Arrays, Bounds, BufferUse, Case, Problem

ODD_SIZES = (0, 1, 7, 16, 33, 100, 4, 258)
WORDS = 4


def table_buffer(table: Table) -> BufferUse:
    """Return the buffer that holds a table."""
    return BufferUse("table", "int64", table.size, drawn=True, fill=lambda random: table)


def problem(table: Table, source_bytes: int, destination_bytes: int) -> Problem:
    """Return the copies of a table as a test problem: bytes in, bytes out, the gaps untouched."""
    buffers = (
        table_buffer(table),
        BufferUse("sources", "uint8", source_bytes, drawn=True, integers=(0, 256)),
        BufferUse("destinations", "uint8", destination_bytes, drawn=False),
    )

    def expected(arrays: Arrays) -> Sequence[np.ndarray]:
        return table, arrays[1], gather.reference(table, arrays[1], arrays[2])

    return Problem(buffers, {"bytes": gather.COPY}, expected)


def spread(byte_counts: Sequence[int], step: int, gap: int) -> tuple[list[int], int]:
    """Return places for segments that begin at multiples of `step`, at least `gap` bytes apart, and their end."""
    places, end = [], gap
    for count in byte_counts:
        end += -end % step
        places.append(end)
        end += count + gap
    return places, end


def gathered(byte_counts: Sequence[int], step: int, gap: int = 5) -> Problem:
    """Return tensors that lie at multiples of `step` bytes, gathered into an arena."""
    sources, source_bytes = spread(byte_counts, step, gap)
    plan = gather.ArenaPlan.of(sources, byte_counts)
    return problem(plan.gather_table(), source_bytes, plan.arena_bytes)


def scattered(byte_counts: Sequence[int], step: int, gap: int = 5) -> Problem:
    """Return the same tensors, filled from the arena."""
    destinations, destination_bytes = spread(byte_counts, step, gap)
    plan = gather.ArenaPlan.of(destinations, byte_counts)
    return problem(plan.scatter_table(), plan.arena_bytes, destination_bytes)


def sizes_of(size: int) -> tuple[int, ...]:
    """Return the byte counts of a size: one large tensor among many tiny ones, odd ones and empty ones."""
    return (*ODD_SIZES, size, *(1 + k % 9 for k in range(size % 50)))


def words_of(size: int) -> tuple[int, ...]:
    """Return byte counts that are multiples of 4, as float32 tensors have."""
    return tuple(WORDS * count for count in sizes_of(size))


SIZES = (1, 37, 500, 1203)
MILLION = 4_000_003
# A tile has four loads and stores; a unit has 1 and 1, or 2 and 1 where it is shifted.
BOUNDS = {"bytes": Bounds(56, 7, 6)}


def _case(name: str, build: object, sizes: tuple[int, ...] = SIZES, device_size: int = MILLION) -> Case:
    return Case(name, build, sizes, device_size, BOUNDS)  # type: ignore[arg-type]


CASES = (
    _case("gather-aligned", lambda size: gathered(words_of(size), step=16)),
    _case("gather-words", lambda size: gathered(words_of(size), step=4, gap=4)),
    _case("gather-misaligned", lambda size: gathered(sizes_of(size), step=1)),
    _case("gather-many-tiny", lambda size: gathered((3,) * size, step=1, gap=1), (0, 1, 40, 211), 100_003),
    _case("scatter-aligned", lambda size: scattered(words_of(size), step=16)),
    _case("scatter-misaligned", lambda size: scattered(sizes_of(size), step=1)),
)
