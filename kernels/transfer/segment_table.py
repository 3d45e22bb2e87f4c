"""Tables of segments: what one launch moves, for kernels and host functions that copy or convert many tensors at once.

A table is one int64 array, so that a kernel reads it from device memory:

    [segments, units]                               the header
    [first unit, source, destination, extent] ...   one row a segment
    [units, 0, 0, 0]                                an end row, so that each row's units end where the next row's begin

A unit is the smallest share of work (16 bytes of the destination, a group of 1024 elements, ...): units are numbered
through all segments, and threads share the numbers evenly, however the segments' sizes differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

HEADER, ROW = 2, 4
ARENA_ALIGNMENT = 16  # bytes: one 128-bit access

Table = NDArray[np.int64]


class SegmentError(ValueError):
    """Segments that cannot be moved together; the message names the segment and what is wrong with it."""


def build_table(units: NDArray[np.int64], columns: Sequence[NDArray[np.int64]]) -> Table:
    """Return the table of the segments that have units; columns: source, destination, extent."""
    kept = units > 0
    ends = np.cumsum(units[kept])
    table = np.zeros(HEADER + ROW * (ends.size + 1), np.int64)
    table[0], table[1] = ends.size, ends[-1] if ends.size else 0
    rows = table[HEADER:].reshape(-1, ROW)
    rows[1:, 0] = ends
    for number, column in enumerate(columns, 1):
        rows[:-1, number] = column[kept]
    return table


def arena_offsets(byte_counts: Sequence[int], alignment: int = ARENA_ALIGNMENT) -> tuple[tuple[int, ...], int]:
    """Return each segment's offset in an arena, in the order given, and the arena's size in bytes.

    alignment: what each offset and the size are a multiple of; itself a multiple of 16.
    Raises SegmentError for a negative size or another alignment.
    """
    if alignment <= 0 or alignment % ARENA_ALIGNMENT:
        raise SegmentError(f"an arena's alignment is a multiple of {ARENA_ALIGNMENT} bytes, not {alignment}")
    offsets, total = [], 0
    for number, count in enumerate(byte_counts):
        if count < 0:
            raise SegmentError(f"segment {number} has {count} bytes; give its size")
        offsets.append(total)
        total += -(-count // alignment) * alignment
    return tuple(offsets), total


def whole_numbers(name: str, values: Sequence[int]) -> NDArray[np.int64]:
    """Return the values as an int64 array; raise SegmentError, naming the first, for one below 0 or beyond int64."""
    for number, value in enumerate(values):
        if not 0 <= value < 2**63:
            raise SegmentError(f"{name} of segment {number} is {value}; give one from 0 to 2**63 - 1")
    return np.asarray(values, np.int64).reshape(-1)


def refuse_overlap(starts: NDArray[np.int64], byte_counts: NDArray[np.int64]) -> None:
    """Return nothing; raise SegmentError where two destinations share bytes: the result would depend on the order."""
    used = np.flatnonzero(byte_counts)
    order = used[np.argsort(starts[used], kind="stable")]
    ends = (starts + byte_counts)[order]
    shared = np.flatnonzero(ends[:-1] > starts[order][1:])
    if shared.size:
        first, second = sorted((int(order[shared[0]]), int(order[shared[0] + 1])))
        raise SegmentError(f"the destinations of segments {first} and {second} overlap; give each its own bytes")
