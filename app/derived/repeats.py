"""Repetition in a sequence: where a loop was unrolled, or a block is stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LONGEST_PERIOD = 2000
FEWEST_TIMES = 3
FEWEST_COVERED = 12


@dataclass(frozen=True, slots=True)
class Repeat:
    """`times` copies of `period` items stand one after the other from `start`."""

    start: int
    period: int
    times: int

    @property
    def end(self) -> int:
        """Return the position after the last copy."""
        return self.start + self.period * self.times


def find_repeats(tokens: Sequence[int]) -> tuple[Repeat, ...]:
    """Return repeats that don't overlap, in order: the one that covers most first, then those beside it."""
    found: list[Repeat] = []
    open_parts = [(0, len(tokens))]
    values = np.asarray(tokens, dtype=np.int64)
    while open_parts:
        start, end = open_parts.pop()
        best = _best(values[start:end])
        if best is None:
            continue
        repeat = Repeat(start + best.start, best.period, best.times)
        found.append(repeat)
        open_parts += [(start, repeat.start), (repeat.end, end)]
    return tuple(sorted(found, key=lambda repeat: repeat.start))


def _best(values: np.ndarray) -> Repeat | None:
    """Return the repeat that covers most items; of equal ones that with the shortest period, then the first."""
    best: Repeat | None = None
    most = FEWEST_COVERED - 1
    for period in range(1, min(len(values) // FEWEST_TIMES, LONGEST_PERIOD) + 1):
        start, length = _longest_true(values[period:] == values[:-period])
        times = length // period + 1
        if times >= FEWEST_TIMES and times * period > most:
            best, most = Repeat(start, period, times), times * period
    return best


def _longest_true(flags: np.ndarray) -> tuple[int, int]:
    """Return (start, length) of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    if not len(edges):
        return 0, 0
    lengths = edges[1::2] - edges[::2]
    longest = int(np.argmax(lengths))
    return int(edges[2 * longest]), int(lengths[longest])
