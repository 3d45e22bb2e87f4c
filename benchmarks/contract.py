"""What every benchmark shares: rows against peers, interleaved timing, and the result that its command prints.

A benchmark module declares a Benchmark (a name, the rows it promises, a function that measures them) and ends with

    if __name__ == "__main__":
        sys.exit(benchmarks.command.main(BENCHMARK))
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analyzer import device
from analyzer.errors import HotbenchError
from analyzer.measurement import Measurement
from analyzer.progress import Progress, silent
from analyzer.record import to_plain
from analyzer.statistics import paired_ratio


@dataclass(frozen=True, slots=True)
class Promise:
    """The fixed ids of a row that a full run gives: what is measured (`case`, `metric`), and against whom (`peer`)."""

    case: str
    peer: str
    metric: str


@dataclass(frozen=True, slots=True)
class Ratio:
    """How far ours is ahead of the peer (above 1), with its 95 % interval."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. ours and theirs are in the unit that the metric's id names; ratio is above 1 where ours leads."""

    case: str
    threads: int
    peer: str
    metric: str
    ours: float
    theirs: float
    ratio: Ratio


@dataclass(frozen=True, slots=True)
class Missing:
    """A peer that could not be measured here, and why."""

    peer: str
    why: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a benchmark measured; `details` is more of the same for readers, in plain JSON."""

    rows: tuple[Row, ...]
    missing: tuple[Missing, ...] = ()
    details: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line asks of a benchmark. `quick` ends within 60 s on 2 cores and leaves out what cannot."""

    quick: bool
    progress: Progress = silent


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A module of this package: its name, the rows that its full run gives, and the function that measures."""

    name: str
    promises: tuple[Promise, ...]
    measure: Callable[[Settings], Outcome]


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Callable[[], float]:
    """Return a function that does `work` once and returns the seconds it took."""

    def sample() -> float:
        start = clock()
        work()
        return clock() - start

    return sample


def interleave(
    cases: Mapping[str, Callable[[], float]], rounds: int, *, warmup: int = 1, progress: Progress = silent
) -> dict[str, tuple[float, ...]]:
    """Return `rounds` samples of each case, taken in turns; each function returns one sample.

    The order rotates from round to round, so that no case always follows the same one. Warm-up rounds are dropped.
    """
    names = list(cases)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-warmup, rounds):
        shift = turn % max(len(names), 1)
        for name in names[shift:] + names[:shift]:
            value = cases[name]()
            if turn >= 0:
                samples[name].append(value)
        progress("measuring", (turn + warmup + 1) / (rounds + warmup))
    return {name: tuple(values) for name, values in samples.items()}


def row_of_samples(
    promise: Promise,
    threads: int,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    higher_is_better: bool = False,
) -> Row:
    """Return the row of samples that `interleave` took: medians, and their ratio with a bootstrap 95 % interval."""
    ratio = paired_ratio(ours, theirs) if higher_is_better else paired_ratio(theirs, ours)
    return Row(
        promise.case,
        threads,
        promise.peer,
        promise.metric,
        _median(ours),
        _median(theirs),
        Ratio(ratio.median, ratio.low, ratio.high),
    )


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def ratio_of(measurement: Measurement) -> Ratio:
    """Return a measured ratio (ours ahead above 1) as a row's ratio."""
    return Ratio(measurement.median, measurement.low, measurement.high)


def result_of(benchmark: Benchmark, outcome: Outcome, quick: bool) -> dict[str, Any]:
    """Return the benchmark's JSON object. Raises HotbenchError for a row whose ids the benchmark does not list."""
    known = set(benchmark.promises)
    for row in outcome.rows:
        if Promise(row.case, row.peer, row.metric) not in known:
            raise HotbenchError(
                f"row {row.case}/{row.peer}/{row.metric} is not listed by benchmarks.{benchmark.name}; add a Promise"
            )
    result = {
        "benchmark": benchmark.name,
        "command": f"python -m benchmarks.{benchmark.name}{' --quick' if quick else ''} --json",
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "environment": environment(),
        "rows": to_plain(outcome.rows),
        "missing": to_plain(outcome.missing),
    }
    if outcome.details:
        result["details"] = to_plain(outcome.details)
    return result


def environment() -> dict[str, Any]:
    """Return what the figures depend on: versions, processor, cores."""
    return {**device.describe_environment().as_dict(), "cores": os.cpu_count() or 1}


def missing_promises(benchmark: Benchmark, outcome: Outcome) -> list[Promise]:
    """Return the promised rows that were neither measured nor excused by a missing peer."""
    found = {Promise(row.case, row.peer, row.metric) for row in outcome.rows}
    excused = {peer.peer for peer in outcome.missing}
    return [promise for promise in benchmark.promises if promise not in found and promise.peer not in excused]
