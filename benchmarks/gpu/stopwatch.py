"""Times work on the device: calls captured into a CUDA graph, replayed in turns, between CUDA events.

A graph leaves the host out: what is timed is the device's own time, launch gaps on the device included.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from analyzer.statistics import paired_ratio
from benchmarks.gpu.findings import Spread

ROUNDS = 21
WARM_UP = 3
LEAST_SECONDS = 3e-4  # of one replay: events resolve half a microsecond, and a graph's start takes a few
TRIAL_CALLS = 16
MOST_CALLS = 2000

Call = Callable[[], object]


def replays(calls: Sequence[Call], least_seconds: float = LEAST_SECONDS) -> tuple[Callable[[], None], int]:
    """Return a function that replays a graph of the calls, and how many calls one replay holds.

    The calls, one a set of buffers, are repeated until a replay takes `least_seconds`, but MOST_CALLS at most.
    """
    tried = max(1, TRIAL_CALLS // len(calls))
    trial = captured(list(calls) * tried)
    trial.replay()
    seconds = between_events(trial.replay) / tried
    repeats = max(1, min(math.ceil(least_seconds / max(seconds, 1e-7)), MOST_CALLS // len(calls)))
    graph = trial if repeats == tried else captured(list(calls) * repeats)
    return graph.replay, len(calls) * repeats


def captured(calls: Sequence[Call]) -> torch.cuda.CUDAGraph:
    """Return a CUDA graph of the calls, each called before on the side stream that a capture needs."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            calls[0]()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return graph


def between_events(work: Call) -> float:
    """Return the seconds between CUDA events around the work on the current stream."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) * 1e-3


def graph_sampler(calls: Sequence[Call]) -> Callable[[], float]:
    """Return what replays a graph of the calls and returns the seconds of one."""
    replay, count = replays(calls)
    return lambda: between_events(replay) / count


def plain_sampler(calls: Sequence[Call]) -> Callable[[], float]:
    """Return what launches the calls one by one and returns the seconds of one, gaps between launches included."""
    return lambda: between_events(lambda: [call() for call in calls]) / len(calls)


def sample_in_turns(samplers: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, tuple[float, ...]]:
    """Return `rounds` samples of each, taken in rotating turns after two warm-up rounds."""
    names = list(samplers)
    samples: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for turn in range(-2, rounds):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                value = samplers[name]()
                if turn >= 0:
                    samples[name].append(value)
    finally:
        gc.enable()
    return {name: tuple(values) for name, values in samples.items()}


def spread_of(samples: Sequence[float]) -> Spread:
    """Return the samples' median with its bootstrap 95 % interval."""
    found = paired_ratio(samples, [1.0] * len(samples))
    return Spread(found.median, found.low, found.high)


def ratio_of(theirs: Sequence[float], ours: Sequence[float]) -> Spread:
    """Return theirs over ours, medians, with the bootstrap 95 % interval of rounds drawn as pairs."""
    found = paired_ratio(theirs, ours)
    return Spread(found.median, found.low, found.high)


def scaled(spread: Spread, factor: float) -> Spread:
    """Return the spread in another unit."""
    return Spread(spread.median * factor, spread.low * factor, spread.high * factor)


def as_rate(seconds: Spread, amount: float) -> Spread:
    """Return amount over seconds; what was low becomes high."""
    return Spread(amount / seconds.median, amount / seconds.high, amount / seconds.low)


def sm_clock_mhz() -> int | None:
    """Return the multiprocessors' clock as the driver tells it, None where it does not."""
    try:
        return int(torch.cuda.clock_rate())
    except Exception:  # no NVML, no permission, no device: a clock that is not told changes no time
        return None


def sets_beyond_cache(set_bytes: int) -> int:
    """Return how many sets of buffers of this size together are three times the device's L2 cache, at least 1."""
    properties: Any = torch.cuda.get_device_properties(torch.cuda.current_device())
    return max(1, math.ceil(3 * properties.L2_cache_size / max(set_bytes, 1)))
