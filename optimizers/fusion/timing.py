"""Interleaved timings of two ways to compute the same, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Clock = Callable[[], float]
Times = np.ndarray[Any, np.dtype[np.float64]]
_LOOKS = (5, 9, 17, 33)
"""After so many rounds it is looked whether the outcome is clear already: few looks, so that chance gets few."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Medians in seconds of two ways, run alternately.

    ratio: the median over the rounds of first/second, so that drifts of the machine cancel; low and high are its
    bootstrap 95 % interval.
    """

    first_seconds: float
    second_seconds: float
    ratio: float
    low: float
    high: float
    rounds: int

    def as_dict(self) -> dict[str, float | int]:
        """Return the fields as plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def compare(
    first: Callable[[], Any],
    second: Callable[[], Any],
    budget_seconds: float = 1.0,
    block_seconds: float = 0.001,
    clock: Clock | None = None,
    clear: float | None = None,
) -> Comparison:
    """Return how `first` and `second` compare; each round runs a block of both, in alternating order.

    A block repeats its function until it takes about `block_seconds`; there are 7 to 61 rounds, as many as the
    budget allows. clock: by default this thread's CPU time where torch uses one thread, which other processes do not
    disturb; else wall-clock time. clear: rounds end as soon as the whole interval lies so far from 1, as a fraction.
    """
    clock = clock or (time.thread_time if torch.get_num_threads() == 1 else time.perf_counter)
    blocks = [(function, _repeats(function, block_seconds, clock)) for function in (first, second)]
    one_round = sum(_block(function, repeats, clock) * repeats for function, repeats in blocks)
    rounds = int(min(max(budget_seconds / max(one_round, 1e-9), 7), 61))
    times = np.empty((rounds, 2))
    for position in range(rounds):
        order = (0, 1) if position % 2 == 0 else (1, 0)
        for side in order:
            times[position, side] = _block(*blocks[side], clock)
        if clear is not None and position + 1 in _LOOKS and _is_clear(times[: position + 1], clear):
            times = times[: position + 1]
            break
    medians = np.median(times, axis=0)
    ratios = _ratios(times)
    low, high = _interval(ratios)
    return Comparison(float(medians[0]), float(medians[1]), float(np.median(ratios)), low, high, len(times))


def _is_clear(times: Times, clear: float) -> bool:
    low, high = _interval(_ratios(times))
    return low > 1.0 + clear or high < 1.0 / (1.0 + clear)


def _ratios(times: Times) -> Times:
    ratios: Times = times[:, 0] / np.maximum(times[:, 1], 1e-12)
    return ratios


def clock_of(device: torch.device) -> Clock | None:
    """Return the clock to time work on a device with, which waits for what was queued; None for the CPU's own."""
    if device.type != "cuda":
        return None

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock


def _repeats(function: Callable[[], Any], block_seconds: float, clock: Clock) -> int:
    function()  # the first call warms caches
    seconds = _block(function, 1, clock)
    return int(min(max(block_seconds / max(seconds, 1e-7), 1), 200))


def _block(function: Callable[[], Any], repeats: int, clock: Clock) -> float:
    begin = clock()
    for _ in range(repeats):
        function()
    return (clock() - begin) / repeats


def _interval(ratios: Times) -> tuple[float, float]:
    """Return the bootstrap 95 % interval of the median."""
    drawn = np.random.default_rng(0).integers(len(ratios), size=(400, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), (2.5, 97.5))
    return float(low), float(high)
