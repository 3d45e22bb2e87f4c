"""Joins the ops of the timing pass with those of the graph pass by position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher

import numpy as np

from analyzer.capture.stepops import StepOps
from analyzer.measurement import Measurement


def match_positions(names: Sequence[str], others: Sequence[str]) -> list[tuple[int, int]]:
    """Return pairs of positions with equal names, in order: all of them where the sequences are equal.

    Otherwise what is equal at both ends, and between them the longest common runs.
    """
    if names == others:
        return [(position, position) for position in range(len(names))]
    shorter = min(len(names), len(others))
    head = 0
    while head < shorter and names[head] == others[head]:
        head += 1
    tail = 0
    while tail < shorter - head and names[-1 - tail] == others[-1 - tail]:
        tail += 1
    middle = SequenceMatcher(None, names[head : len(names) - tail], others[head : len(others) - tail], autojunk=False)
    pairs = [(position, position) for position in range(head)]
    for block in middle.get_matching_blocks():
        pairs += [(head + block.a + step, head + block.b + step) for step in range(block.size)]
    return pairs + [(len(names) - back, len(others) - back) for back in range(tail, 0, -1)]


def join_times(names: Sequence[str], steps: Sequence[StepOps]) -> list[Measurement | None]:
    """Return for each position of the graph pass the self seconds over the steps; None where no step has the op."""
    seconds = np.full((len(names), len(steps)), np.nan)
    matches: dict[tuple[str, ...], tuple[list[int], list[int]]] = {}
    for column, step in enumerate(steps):
        if step.names not in matches:
            pairs = match_positions(names, step.names)
            matches[step.names] = [mine for mine, _ in pairs], [theirs for _, theirs in pairs]
        mine, theirs = matches[step.names]
        seconds[mine, column] = np.asarray(step.self_nanoseconds, dtype=np.float64)[theirs] * 1e-9
    return [_measure(row) for row in _quartiles(seconds)]


def _quartiles(seconds: np.ndarray) -> Iterator[tuple[int, float, float, float]]:
    """Yield (samples, lower quartile, median, upper quartile) of each row, absent values left out."""
    counts = np.count_nonzero(~np.isnan(seconds), axis=1)
    table = np.zeros((len(seconds), 3))
    whole, some = counts == seconds.shape[1], (counts > 0) & (counts < seconds.shape[1])
    if seconds.shape[1] and whole.any():
        table[whole] = np.percentile(seconds[whole], (25, 50, 75), axis=1).T
    if some.any():
        table[some] = np.nanpercentile(seconds[some], (25, 50, 75), axis=1).T
    for count, (low, median, high) in zip(counts.tolist(), table.tolist(), strict=True):
        yield count, low, median, high


def _measure(row: tuple[int, float, float, float]) -> Measurement | None:
    samples, low, median, high = row
    return Measurement(median, low, high, samples, "s") if samples else None


def measure_columns(columns: Sequence[Mapping[int, float]], count: int) -> list[Measurement | None]:
    """Return the measured value of each of `count` rows, given a column (row -> value) for every step."""
    table = np.full((count, len(columns)), np.nan)
    for place, column in enumerate(columns):
        for row, value in column.items():
            table[row, place] = value
    return [_measure(row) for row in _quartiles(table)]
