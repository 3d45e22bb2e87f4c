"""Interleaved A/B of two Launches: ratio, interval, noise floor, accuracy, verdict."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path

from analyzer import device
from analyzer.closeness import Accuracy, AccuracyGate
from analyzer.device import Environment
from analyzer.errors import RecordError
from analyzer.identity import content_id
from analyzer.launch import Launch, baseline_launch
from analyzer.launcher import CANDIDATE, VariantError
from analyzer.measurement import Measurement
from analyzer.progress import Progress, silent
from analyzer.record import from_plain, read_folder, to_plain, write_folder
from analyzer.schedule import DEFAULT_SAMPLING, Sampling
from analyzer.trial import failed_trial, run_trial
from analyzer.verdict import NO_TIME, flat, judge, judge_time

__all__ = [
    "Accuracy",
    "Experiment",
    "Launch",
    "Sampling",
    "baseline_launch",
    "load_experiment",
    "run_experiment",
    "save_experiment",
]

FORMAT_VERSION = 1
VERDICTS = ("faster", "slower", "smaller", "inconclusive", "refused")
KIND = "experiment"


@dataclass(frozen=True, slots=True)
class Experiment:
    """What two Launches measured against each other, and the verdict.

    speedup: before/after time, the median of the ratios of rounds with its bootstrap 95 % interval.
    noise_floor: the same ratio of the baseline against itself in the same sitting (interval).
    before_seconds, after_seconds, again_seconds: seconds a step, one figure a round; equal places are one round.
    rounds: how many of them each block of fresh builds has; sittings: how many blocks each sitting has.
    memory_ratio, size_ratio: after/before peak bytes and bytes of parameters and buffers as stored.
    verdicts: {"time", "memory", "size", "accuracy"} -> one word each.
    """

    id: str
    parent: str
    """The Candidate's id (or, for a plain comparison, the Run's)."""
    baseline: Launch
    candidate: Launch
    before_seconds: tuple[float, ...]
    after_seconds: tuple[float, ...]
    again_seconds: tuple[float, ...]
    """The baseline a second time: A against A."""
    speedup: Measurement
    noise_floor: Measurement
    memory_ratio: float | None
    peak_bytes_before: int | None
    peak_bytes_after: int | None
    size_ratio: float
    accuracy: Accuracy
    verdicts: dict[str, str]
    verdict: str
    reason: str
    interleaved: bool
    environment: Environment
    created: str
    notes: tuple[str, ...] = ()
    rounds: tuple[int, ...] = ()
    sittings: tuple[int, ...] = ()
    cpu_ratio: float | None = None
    """before/after CPU time of a step, all threads: beside the wall clock, for the reader; no verdict hangs on it."""
    format_version: int = FORMAT_VERSION


def run_experiment(
    baseline: Launch,
    candidate: Launch,
    *,
    parent: str,
    training: bool,
    max_error: float | None = None,
    max_slowdown: float = 0.0,
    gate_accuracy: bool = True,
    gate: AccuracyGate | None = None,
    sampling: Sampling = DEFAULT_SAMPLING,
    progress: Progress = silent,
) -> Experiment:
    """Return what the two launches measure against each other, each in processes of its own.

    max_error:    largest relative error that is accepted; None takes that of the outputs' dtype.
    max_slowdown: fraction by which a smaller candidate may be slower.
    gate_accuracy: whether outputs beyond max_error refuse the candidate; False where both sides are
                  workloads in their own right, whose outputs need not be equal.
    gate:         what the answers must keep in place of the dtype's tolerance; max_error holds beside it.

    A candidate that raises, dies or hangs is refused, with the reason. Raises VariantError when the baseline does.
    """
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        findings = run_trial(
            baseline, candidate, training=training, max_error=max_error, sampling=sampling, progress=progress
        )
    except VariantError as error:
        if error.role != CANDIDATE:
            raise
        findings = failed_trial(str(error), max_error)
    accuracy = dataclasses.replace(findings.accuracy, gate=gate)
    time_verdict = judge_time(findings.blocks) if findings.blocks else NO_TIME
    verdicts, verdict, reason = judge(
        time_verdict,
        findings.memory_ratio,
        findings.size_ratio,
        accuracy,
        max_slowdown=max_slowdown,
        gate_accuracy=gate_accuracy,
    )
    experiment = Experiment(
        id="",
        parent=parent,
        baseline=baseline,
        candidate=candidate,
        before_seconds=flat(findings.blocks.before),
        after_seconds=flat(findings.blocks.after),
        again_seconds=flat(findings.blocks.again),
        speedup=time_verdict.speedup,
        noise_floor=time_verdict.noise_floor,
        memory_ratio=findings.memory_ratio,
        peak_bytes_before=findings.peak_bytes_before,
        peak_bytes_after=findings.peak_bytes_after,
        size_ratio=findings.size_ratio,
        accuracy=accuracy,
        verdicts=verdicts,
        verdict=verdict,
        reason=reason,
        interleaved=True,
        environment=device.describe_environment(),
        created=created,
        notes=findings.notes,
        rounds=tuple(len(block) for block in findings.blocks.before),
        sittings=findings.blocks.sittings,
        cpu_ratio=findings.cpu_ratio,
    )
    return dataclasses.replace(experiment, id=experiment_id(experiment))


def save_experiment(experiment: Experiment, folder: Path) -> None:
    """Write the experiment into `folder`, whole or not at all. Raises RecordError where it cannot be written."""
    text = json.dumps(to_plain(experiment), indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_folder(folder, {f"{KIND}.json": text.encode()}, KIND, experiment.id)


def load_experiment(folder: Path) -> Experiment:
    """Return the experiment saved in `folder`. Raises RecordError for a missing, changed or newer one."""
    manifest = read_folder(folder, KIND)
    try:
        data = json.loads((folder / f"{KIND}.json").read_bytes())
    except (OSError, ValueError) as error:
        raise RecordError(f"{folder} holds no readable {KIND}.json ({error}); run the experiment again") from error
    experiment = from_plain(Experiment, data)
    if experiment.format_version > FORMAT_VERSION:
        raise RecordError(f"{folder} has format {experiment.format_version}; this version reads up to {FORMAT_VERSION}")
    # Of the content as it is stored: one saved before a field was added is still the same.
    if content_id(KIND, {**data, "id": ""}) != experiment.id or manifest.id != experiment.id:
        raise RecordError(f"{folder} names experiment {experiment.id}, but its content is another's; it is corrupt")
    return experiment


def experiment_id(experiment: Experiment) -> str:
    """Return the id that follows from the experiment's content."""
    return content_id(KIND, dataclasses.replace(experiment, id=""))
