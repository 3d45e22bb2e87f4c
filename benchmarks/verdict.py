"""How often the verdict is right: never faster or slower for equal code, slower for a planted 5 %."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from analyzer.experiment import Experiment, run_experiment
from analyzer.progress import Progress, part
from benchmarks.command import main
from benchmarks.contract import Benchmark, Outcome, Promise, Ratio, Row, Settings
from benchmarks.neighbour import busy_neighbour
from benchmarks.steps import KINDS, launch, repeats_for

PEER = "two-sample-t-test"
"""The rule of pyperf's compare_to, on the very samples that ours was given: significant at 95 % or not."""
SHARE = "share-of-right-verdicts"
EQUAL = Promise("a-a-busy-neighbour", PEER, SHARE)
PLANTED = Promise("planted-5-percent", PEER, SHARE)
EQUAL_SECONDS = 0.002
PLANTED_SECONDS = 0.020
EQUAL_EXPERIMENTS, PLANTED_EXPERIMENTS = 200, 20
QUICK_EQUAL, QUICK_PLANTED = 1, 1


@dataclass(frozen=True, slots=True)
class Trial:
    """One experiment of a series: our word and the peer's, and the figures behind them."""

    kind: str
    ours: str
    theirs: str
    speedup: tuple[float, float, float]
    floor: tuple[float, float]
    rounds: tuple[int, ...]
    seconds: float
    notes: tuple[str, ...]


def measure(settings: Settings) -> Outcome:
    """Return both series."""
    equal = QUICK_EQUAL if settings.quick else EQUAL_EXPERIMENTS
    planted = QUICK_PLANTED if settings.quick else PLANTED_EXPERIMENTS
    return series(equal, planted, settings.progress)


def series(equal: int, planted: int, progress: Progress) -> Outcome:
    """Return the outcome of so many experiments with a planted slow-down, and so many on equal code."""
    share = 1.5 * planted / (equal + 1.5 * planted)
    first, second = part(progress, 0.0, share), part(progress, share, 1.0)
    planteds = _until_interrupted(lambda position: planted_trial(position, first, planted), planted)
    equals = _until_interrupted(lambda position: equal_trial(position, second, equal), equal)
    rows = (
        _row(EQUAL, equals, lambda word: word not in ("faster", "slower")),
        _row(PLANTED, planteds, lambda word: word == "slower"),
    )
    details = {EQUAL.case: _details(equals), PLANTED.case: _details(planteds)}
    return Outcome(rows, details=details)


def _until_interrupted(trial: Callable[[int], Trial], count: int) -> list[Trial]:
    """Return `count` trials; Ctrl-C ends the series with those that it has, whose number the details hold."""
    trials: list[Trial] = []
    try:
        for position in range(count):
            trials.append(trial(position))
    except KeyboardInterrupt:
        if not trials:
            raise
    return trials


def equal_trial(position: int, progress: Progress, count: int) -> Trial:
    """Run one experiment of code against itself beside a neighbour that burns CPU in bursts."""
    kind = KINDS[position % len(KINDS)]
    repeats = repeats_for(kind, EQUAL_SECONDS)
    with busy_neighbour(seed=position):
        trial = _trial(kind, repeats, extra=0)
    progress(f"equal code, {position + 1} of {count}: {_line(trial)}", (position + 1) / count)
    return trial


def planted_trial(position: int, progress: Progress, count: int) -> Trial:
    """Run one experiment against the same step of 20 ms with 5 % more work in it."""
    kind = KINDS[position % len(KINDS)]
    repeats = repeats_for(kind, PLANTED_SECONDS)
    trial = _trial(kind, repeats, extra=repeats // 20)
    progress(f"5 % more work, {position + 1} of {count}: {_line(trial)}", (position + 1) / count)
    return trial


def _line(trial: Trial) -> str:
    median, low, high = trial.speedup
    return f"{trial.kind} {trial.ours}, {median:.3f}x ({low:.3f} to {high:.3f}), {trial.seconds:.0f} s"


def _trial(kind: str, repeats: int, extra: int) -> Trial:
    start = time.monotonic()
    experiment = run_experiment(
        launch("before", kind, repeats), launch("after", kind, repeats, extra), parent="benchmark", training=False
    )
    speedup, floor = experiment.speedup, experiment.noise_floor
    return Trial(
        kind,
        experiment.verdict,
        t_test(experiment),
        (speedup.median, speedup.low, speedup.high),
        (floor.low, floor.high),
        experiment.rounds,
        time.monotonic() - start,
        experiment.notes,
    )


def t_test(experiment: Experiment) -> str:
    """Return the word of a two-sample t-test at 95 % on the experiment's samples."""
    before, after = np.asarray(experiment.before_seconds), np.asarray(experiment.after_seconds)
    spread = math.sqrt(before.var(ddof=1) / len(before) + after.var(ddof=1) / len(after))
    freedom = len(before) + len(after) - 2
    gap = float(before.mean() - after.mean())
    if abs(gap) <= float(stdtrit(freedom, 0.975)) * spread:
        return "inconclusive"
    return "faster" if gap > 0 else "slower"


def _row(promise: Promise, trials: Sequence[Trial], right: Callable[[str], bool]) -> Row:
    ours = np.array([right(trial.ours) for trial in trials], dtype=np.float64)
    theirs = np.array([right(trial.theirs) for trial in trials], dtype=np.float64)
    chosen = np.random.default_rng(0).integers(0, len(trials), size=(2000, len(trials)))
    low, high = np.percentile(_advantage(ours[chosen].mean(1), theirs[chosen].mean(1), len(trials)), (2.5, 97.5))
    ratio = float(_advantage(ours.mean(), theirs.mean(), len(trials)))
    return Row(
        promise.case, 1, promise.peer, promise.metric, float(ours.mean()), float(theirs.mean()), Ratio(ratio, low, high)
    )


def _advantage(ours: Any, theirs: Any, trials: int) -> Any:
    # Half a trial more on both sides: a rule that is never right would make the ratio infinite.
    return (ours * trials + 0.5) / (theirs * trials + 0.5)


def _details(trials: Sequence[Trial]) -> dict[str, Any]:
    words = [trial.ours for trial in trials]
    return {
        "experiments": len(trials),
        "verdicts": {word: words.count(word) for word in sorted(set(words))},
        "seconds": sum(trial.seconds for trial in trials),
        "trials": list(trials),
    }


BENCHMARK = Benchmark("verdict", (EQUAL, PLANTED), measure)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
