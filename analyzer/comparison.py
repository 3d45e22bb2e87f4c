"""Two captured runs against each other: measured anew where both can be rebuilt, else by what was stored."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from analyzer.experiment import Experiment, run_experiment
from analyzer.launch import baseline_launch
from analyzer.measurement import Measurement
from analyzer.progress import Progress, silent
from analyzer.run import Run
from analyzer.rundiff import OpDifference, diff_runs
from analyzer.schedule import DEFAULT_SAMPLING, Sampling

LEAST_STORED_FLOOR = 0.10
"""Two sittings of the same code differ by as much on a machine with neighbours (docs/experiments.md)."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Run B against run A: speedup = A's time over B's, the verdict on it, and the ops that came, went or changed."""

    before: str
    after: str
    verdict: str
    reason: str
    speedup: Measurement
    noise_floor: Measurement
    interleaved: bool
    ops_added: tuple[OpDifference, ...]
    ops_removed: tuple[OpDifference, ...]
    ops_changed: tuple[OpDifference, ...]
    experiment: Experiment | None = None
    """None when the stored times had to do."""


def compare_runs(
    before: Run, after: Run, *, sampling: Sampling = DEFAULT_SAMPLING, progress: Progress = silent
) -> Comparison:
    """Return how `after` compares with `before`.

    Both are run again, interleaved, when both can be rebuilt. Otherwise the stored times are compared, provided
    that device, versions and threads are the same; where they are not, the verdict is inconclusive.
    Raises HotbenchError when a run that should be rebuilt fails.
    """
    obstacle = _obstacle(before) or _obstacle(after)
    if obstacle:
        return _compare_stored(before, after, obstacle)
    experiment = run_experiment(
        baseline_launch(before.workload, before.threads),
        baseline_launch(after.workload, after.threads, "candidate"),
        parent=before.id,
        training=before.training,
        gate_accuracy=False,
        sampling=sampling,
        progress=progress,
    )
    verdict, reason = experiment.verdict, experiment.reason
    return _comparison(before, after, verdict, reason, experiment.speedup, experiment.noise_floor, experiment)


def _comparison(
    before: Run,
    after: Run,
    verdict: str,
    reason: str,
    speedup: Measurement,
    floor: Measurement,
    experiment: Experiment | None = None,
) -> Comparison:
    difference = diff_runs(before, after)
    return Comparison(
        before.id,
        after.id,
        verdict,
        reason,
        speedup,
        floor,
        experiment is not None,
        difference.added,
        difference.removed,
        difference.changed,
        experiment,
    )


def _obstacle(run: Run) -> str:
    """Return why the run's workload cannot be built again as it was; "" if nothing speaks against it."""
    path = Path(run.workload.path)
    try:
        source = path.read_bytes()
    except OSError as error:
        return f"{path.name} of {run.id} cannot be read ({error.strerror or error})"
    if hashlib.sha256(source).hexdigest() != run.workload.source_hash:
        return f"{path.name} has changed since {run.id} was captured"
    return ""


def _compare_stored(before: Run, after: Run, obstacle: str) -> Comparison:
    a, b = before.step_seconds, after.step_seconds
    samples = min(a.samples, b.samples)
    speedup = Measurement(a.median / b.median, a.low / b.high, a.high / b.low, samples, "x", "quartiles")
    half = max(1 + LEAST_STORED_FLOOR, a.high / a.low, b.high / b.low)
    floor = Measurement(1.0, 1 / half, half, samples, "x", "quartiles")
    unlike = _unlike(before, after)
    if unlike:
        reason = f"inconclusive: {obstacle}, and the stored times are of different {unlike}; profile both again"
        return _comparison(before, after, "inconclusive", reason, speedup, floor)
    verdict = "faster" if speedup.low > floor.high else "slower" if speedup.high < floor.low else "inconclusive"
    reason = (
        f"{verdict}: {speedup.median:.3f}x from stored times, not interleaved since {obstacle}; "
        f"noise floor {floor.low:.3f} to {floor.high:.3f}"
    )
    return _comparison(before, after, verdict, reason, speedup, floor)


def _unlike(before: Run, after: Run) -> str:
    """Return what of the circumstances differs, "" if nothing does."""
    pairs = {
        "devices": (before.device.name, after.device.name),
        "threads": (before.threads, after.threads),
        **{
            name: (getattr(before.environment, name), getattr(after.environment, name))
            for name in before.environment.__dataclass_fields__
        },
    }
    return ", ".join(name for name, (first, second) in pairs.items() if first != second)
