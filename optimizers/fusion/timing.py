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
_WATCHED_CALLS = 3
_REST_SECONDS = 0.002
"""After it the threads of an earlier call have stopped waiting for more work, which takes CPU time too."""
_OTHERS = 0.1
"""Of a call's own CPU time: with less, other threads did something else."""


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
    budget allows. clock: by default this thread's CPU time, which other processes do not disturb, where neither
    function uses other threads; else wall-clock time. clear: rounds end as soon as the whole interval lies so far
    from 1, as a fraction.
    """
    clock = clock or _clock_for(first, second)
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


def _clock_for(*functions: Callable[[], Any]) -> Clock:
    """Return this thread's CPU time, or the wall clock where a function leaves work to other threads."""
    shared = torch.get_num_threads() > 1 and any(_uses_threads(function) for function in functions)
    return time.perf_counter if shared else time.thread_time


def _uses_threads(function: Callable[[], Any]) -> bool:
    """Return whether other threads of the process work while a function runs, in any of a few calls."""
    function()  # the first call warms caches
    for _ in range(_WATCHED_CALLS):
        time.sleep(_REST_SECONDS)
        own, everyone = time.thread_time(), time.process_time()
        function()
        own, everyone = time.thread_time() - own, time.process_time() - everyone
        if everyone - own > _OTHERS * own:
            return True
    return False


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
