"""Two captured runs against each other: measured anew where both can be rebuilt, else by what was stored."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analyzer.errors import HotbenchError
from analyzer.experiment import Experiment, run_experiment
from analyzer.measurement import Measurement
from analyzer.progress import Progress, silent
from analyzer.run import Run, StepTime
from analyzer.rundiff import RunDifference, diff_runs
from optimizers.pipeline import baseline_launch


@dataclass(frozen=True, slots=True)
class Comparison:
    """B against A: speedup = A's time over B's. `experiment` is None when the stored times had to do."""

    verdict: str
    reason: str
    speedup: Measurement
    noise_floor: Measurement
    interleaved: bool
    difference: RunDifference
    experiment: Experiment | None


def compare_runs(before: Run, after: Run, progress: Progress = silent) -> Comparison:
    """Return how `after` compares with `before`: interleaved when both workloads are still what they were."""
    obstacle = _obstacle(before) or _obstacle(after)
    if obstacle:
        return _compare_stored(before, after, obstacle)
    experiment = run_experiment(
        baseline_launch(before),
        replace(baseline_launch(after), name="candidate"),
        parent=before.id,
        training=before.training,
        progress=progress,
    )
    return Comparison(
        experiment.verdict,
        experiment.reason,
        experiment.speedup,
        experiment.noise_floor,
        experiment.interleaved,
        diff_runs(before, after),
        experiment,
    )


def comparison_summary(comparison: Comparison) -> dict[str, Any]:
    """Return the command line's JSON."""
    difference = comparison.difference
    return {
        "verdict": comparison.verdict,
        "reason": comparison.reason,
        "speedup": _triple(comparison.speedup),
        "noise_floor": _triple(comparison.noise_floor),
        "interleaved": comparison.interleaved,
        "experiment": comparison.experiment.id if comparison.experiment else None,
        "ops_added": [item.as_dict() for item in difference.added],
        "ops_removed": [item.as_dict() for item in difference.removed],
        "ops_changed": [item.as_dict() for item in difference.changed],
    }


def _triple(value: Measurement) -> dict[str, Any]:
    return {"median": value.median, "low": value.low, "high": value.high, "interval": value.interval}


def _obstacle(run: Run) -> str:
    """Return why the run's workload cannot be built again as it was, "" if nothing speaks against it."""
    path = Path(run.workload.path)
    try:
        source = path.read_bytes()
    except OSError as error:
        return f"{path.name} of {run.id} cannot be read ({error.strerror or error})"
    if hashlib.sha256(source).hexdigest() != run.workload.source_hash:
        return f"{path.name} has changed since {run.id}"
    return ""


def _compare_stored(before: Run, after: Run, obstacle: str) -> Comparison:
    """Compare the stored times: only where device, versions and threads are the same do they mean anything."""
    if (before.environment, before.device.name, before.threads) != (
        after.environment,
        after.device.name,
        after.threads,
    ):
        raise HotbenchError(
            f"cannot compare {before.id} with {after.id}: {obstacle}, and their environments differ; "
            "profile both again on one machine"
        )
    speedup = _ratio(before.step_seconds, after.step_seconds)
    floor = _floor(before.step_seconds, after.step_seconds)
    verdict = "faster" if speedup.low > floor.high else "slower" if speedup.high < floor.low else "inconclusive"
    reason = f"stored times, not interleaved: {obstacle}; interval from quartiles, floor from each run's own spread"
    return Comparison(verdict, reason, speedup, floor, False, diff_runs(before, after), None)


def _fingerprint(run: Run) -> tuple[object, ...]:
    return (run.environment, run.device.name, run.threads)


def _ratio(before: StepTime, after: StepTime) -> Measurement:
    samples = min(before.samples, after.samples)
    return Measurement(
        before.median / after.median, before.low / after.high, before.high / after.low, samples, "x", "quartiles"
    )


def _floor(before: StepTime, after: StepTime) -> Measurement:
    low = min(step.low / step.median for step in (before, after))
    high = max(step.high / step.median for step in (before, after))
    return Measurement(1.0, low, high, min(before.samples, after.samples), "x", "quartiles")
