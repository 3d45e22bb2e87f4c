"""One case of a benchmark table: who computes it, that all compute the same, and the figures of timing in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.gpu import stopwatch
from benchmarks.gpu.findings import Bar, Figure, Found, Skip, Spread, judged, one_line
from benchmarks.gpu.stopwatch import Call
from tests.cuda.device import missing

OURS = "ours"
MICROSECONDS = "microseconds"
BANDWIDTH = "gb-per-s"


@dataclass(frozen=True)
class Rival:
    """Who computes the case.

    calls:  one for each set of buffers.
    result: what gives the first call's result once it has run; None where the call returns it.
    """

    calls: Sequence[Call]
    result: Callable[[], torch.Tensor] | None = None


@dataclass(frozen=True)
class Contest:
    """One case.

    rivals:      by name, OURS among them: what builds the Rival. It may fail: then it is missing, with the reason.
    wanted:      the right result of the first set of buffers, in float64.
    tolerance:   most ||got - wanted|| / ||wanted||; by name in `tolerances`, None where the result is another thing.
    bytes_moved: by one call, or 0 where time is what counts.
    bars:        by peer's name; by "" for our own figure.
    """

    case: str
    rivals: Mapping[str, Callable[[], Rival]]
    wanted: Callable[[], torch.Tensor]
    tolerance: float
    bytes_moved: int = 0
    tolerances: Mapping[str, float | None] = field(default_factory=dict)
    bars: Mapping[str, tuple[Bar, ...]] = field(default_factory=dict)


def require_device() -> None:
    """Return nothing; raise Skip, with the reason, where no kernel can be launched."""
    if why := missing():
        raise Skip(why)


def run_contest(contest: Contest, rounds: int = stopwatch.ROUNDS) -> Found:
    """Return the figures of the contest on the device. Raises AssertionError where our result is wrong."""
    ready, absent, seconds = build_rivals(contest)
    samplers, outside = samplers_of(ready)
    clocks = [stopwatch.sm_clock_mhz()]
    samples = stopwatch.sample_in_turns(samplers, rounds)
    clocks.append(stopwatch.sm_clock_mhz())
    figures = figures_of(contest, samples, torch.cuda.get_device_name())
    facts: dict[str, Any] = {"missing": absent, "build_seconds": seconds, "rounds": rounds, "outside_graph": outside}
    facts["sm_clock_mhz"] = clocks
    facts["buffer_sets"] = len(ready[OURS].calls)
    text = f"right to {contest.tolerance:g}; {len(figures)} figures"
    without = "".join(f"; without {name}: {why}" for name, why in absent.items())
    without += "".join(f"; {name} outside of a CUDA graph: {why}" for name, why in outside.items())
    return Found(text + without, tuple(figures), facts)


def build_rivals(contest: Contest) -> tuple[dict[str, Rival], dict[str, str], dict[str, float]]:
    """Return the rivals that compute the right result, why others are missing, and the seconds that each took to build.

    Raises what our own kernel raises, and AssertionError where its result is wrong.
    """
    wanted = contest.wanted()
    ready: dict[str, Rival] = {}
    absent: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for name, build in contest.rivals.items():
        begin = time.perf_counter()
        try:
            rival = build()
            result = rival.calls[0]()
            if rival.result is not None:
                result = rival.result()
            tolerance = contest.tolerances.get(name, contest.tolerance)
            if tolerance is not None:
                compare(name, result, wanted, tolerance)
        except Exception as error:
            if name == OURS:
                raise
            absent[name] = one_line(error, 200)
            continue
        ready[name] = rival
        seconds[name] = time.perf_counter() - begin
    return ready, absent, seconds


def samplers_of(ready: Mapping[str, Rival]) -> tuple[dict[str, Callable[[], float]], dict[str, str]]:
    """Return what takes a sample of each rival, and why some are not timed in a CUDA graph: those count launches too.

    Raises what our own capture raises.
    """
    samplers: dict[str, Callable[[], float]] = {}
    outside: dict[str, str] = {}
    for name, rival in ready.items():
        try:
            samplers[name] = stopwatch.graph_sampler(rival.calls)
        except Exception as error:
            if name == OURS:
                raise
            outside[name] = one_line(error, 200)
            samplers[name] = stopwatch.plain_sampler(rival.calls)
    return samplers, outside


def compare(name: str, got: Any, wanted: torch.Tensor, tolerance: float) -> None:
    """Return nothing; raise AssertionError unless ||got - wanted|| is within tolerance of ||wanted||, and no NaN."""
    assert isinstance(got, torch.Tensor), f"{name} returned {type(got).__name__}, no tensor"
    assert got.shape == wanted.shape, f"{name} returned shape {tuple(got.shape)} instead of {tuple(wanted.shape)}"
    error = float((got.double() - wanted.double()).norm() / wanted.double().norm().clamp_min(1e-30))
    assert error <= tolerance, f"{name} is wrong: relative error {error:.2e}, allowed {tolerance:.0e}"


def figures_of(contest: Contest, samples: Mapping[str, Sequence[float]], device: str) -> list[Figure]:
    """Return a figure for each peer, the bars judged for `device`."""
    metric = BANDWIDTH if contest.bytes_moved else MICROSECONDS

    def told(values: Sequence[float]) -> Spread:
        spread = stopwatch.spread_of(values)
        if contest.bytes_moved:
            return stopwatch.as_rate(spread, contest.bytes_moved * 1e-9)
        return stopwatch.scaled(spread, 1e6)

    ours = told(samples[OURS])
    figures = [judged(Figure(contest.case, "", metric, ours), bar, device) for bar in contest.bars.get("", ())]
    for name, values in samples.items():
        if name == OURS:
            continue
        figure = Figure(contest.case, name, metric, ours, told(values), stopwatch.ratio_of(values, samples[OURS]))
        bars = contest.bars.get(name, ())
        figures += [judged(figure, bar, device) for bar in bars] or [figure]
    return figures or [Figure(contest.case, "", metric, ours)]
