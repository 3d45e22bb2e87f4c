"""The loop from a run to a proven candidate: plan, apply, experiment; one function a step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.capture import capture
from analyzer.diagnosis.diagnose import diagnose
from analyzer.diagnosis.finding import Diagnosis
from analyzer.errors import HotbenchError
from analyzer.experiment import Experiment, run_experiment
from analyzer.launch import Launch, baseline_launch
from analyzer.progress import Progress, part, silent
from analyzer.run import Run
from analyzer.threads import torch_threads
from analyzer.workload import Workload, rebuild_workload
from optimizers.candidate import make_candidate, save_candidate
from optimizers.plan import Applied, Candidate, Optimizer, Options, Plan, Refusal
from optimizers.registry import ORDER, optimizer_named
from optimizers.settings import read_options


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one request would do to a run: plans in the order they apply, and refusals."""

    diagnosis: Diagnosis
    plans: tuple[Plan, ...]
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one request: a candidate with its experiment, or refusals alone."""

    proposal: Proposal
    candidate: Candidate | None
    experiment: Experiment | None
    refusals: tuple[Refusal, ...]

    @property
    def kept(self) -> bool:
        """Return whether the candidate was proven better and its answers the same."""
        return self.experiment is not None and self.experiment.verdict in ("faster", "smaller")


def propose(run: Run, names: Sequence[str], settings: Mapping[str, str] | None = None) -> Proposal:
    """Return what the named optimizers would do to `run`; nothing is changed.

    Raises HotbenchError for an unknown optimizer, option or value.
    """
    diagnosis = diagnose(run)
    plans: list[Plan] = []
    refusals: list[Refusal] = []
    for optimizer, options in _requested(names, settings or {}):
        answer = optimizer.plan(run, diagnosis, options)
        if isinstance(answer, Plan):
            plans.append(answer)
        else:
            refusals.append(answer)
    return Proposal(diagnosis, tuple(plans), tuple(refusals))


def apply_plans(run: Run, names: Sequence[str], settings: Mapping[str, str], progress: Progress = silent) -> Outcome:
    """Build the run's workload afresh and apply the named optimizers in their order, capturing anew between two.

    The outcome has a candidate unless every optimizer refused.
    """
    with torch_threads(run.threads):
        return _apply_plans(run, names, settings, progress)


def _apply_plans(run: Run, names: Sequence[str], settings: Mapping[str, str], progress: Progress) -> Outcome:
    requested = _requested(names, settings)
    proposal = propose(run, names, settings)
    workload: Workload = rebuild_workload(run.workload)
    seen, diagnosis = run, proposal.diagnosis
    applied: list[Applied] = []
    refusals: list[Refusal] = []
    for position, (optimizer, options) in enumerate(requested):
        report = part(progress, position / len(requested), (position + 1) / len(requested))
        if applied:
            seen = capture(workload, run.workload, threads=run.threads, progress=report)
            diagnosis = diagnose(seen)
        plan = optimizer.plan(seen, diagnosis, options)
        answer = optimizer.apply(workload, plan, report) if isinstance(plan, Plan) else plan
        if isinstance(answer, Refusal):
            refusals.append(answer)
        else:
            workload, done = answer
            applied.append(done)
    candidate = make_candidate(run.id, run.workload, tuple(applied)) if applied else None
    return Outcome(proposal, candidate, None, tuple(refusals))


def prove(
    run: Run, candidate: Candidate, folder: Path, max_error: float | None = None, progress: Progress = silent
) -> Experiment:
    """Return the experiment of the candidate saved in `folder` against the run's own workload."""
    return run_experiment(
        baseline_launch(run.workload, run.threads),
        Launch(
            name="+".join(item.plan.optimizer for item in candidate.applied),
            entry="optimizers.candidate:launch_candidate",
            argument={"candidate": str(folder.absolute())},
            threads=run.threads,
        ),
        parent=candidate.id,
        training=run.training,
        max_error=max_error,
        max_slowdown=max(float(item.plan.options.get("max_slowdown", 0.0)) for item in candidate.applied),
        progress=progress,
    )


def optimize(
    run: Run,
    names: Sequence[str],
    settings: Mapping[str, str],
    folder: Path,
    max_error: float | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Plan, apply and prove; the candidate is saved in `folder` (untouched when every optimizer refused)."""
    outcome = apply_plans(run, names, settings, part(progress, 0.0, 0.5))
    if outcome.candidate is None:
        return outcome
    save_candidate(outcome.candidate, folder)
    experiment = prove(run, outcome.candidate, folder, max_error, part(progress, 0.5, 1.0))
    return dataclasses.replace(outcome, experiment=experiment)


def optimize_summary(outcome: Outcome) -> dict[str, Any]:
    """Return the command line's JSON of an outcome; without a candidate the verdict is "refused"."""
    experiment, candidate = outcome.experiment, outcome.candidate
    if experiment is None or candidate is None:
        reason = "; ".join(f"{refusal.optimizer}: {refusal.reason}" for refusal in outcome.refusals)
        return {"verdict": "refused", "reason": reason, "kept": False, "candidate": None, "experiment": None}
    estimate = candidate.applied[-1].plan.estimate
    accuracy = experiment.accuracy
    return {
        "candidate": candidate.id,
        "experiment": experiment.id,
        "predicted": {"low": estimate.low, "mid": estimate.mid, "high": estimate.high, "unit": estimate.unit},
        "speedup": {name: _finite(getattr(experiment.speedup, name)) for name in ("median", "low", "high")},
        "memory_ratio": _finite(experiment.memory_ratio),
        "size_ratio": _finite(experiment.size_ratio),
        "verdict": experiment.verdict,
        "verdicts": experiment.verdicts,
        "reason": experiment.reason,
        "accuracy": {
            **{name: _finite(getattr(accuracy, name)) for name in ("max_abs", "max_rel", "cosine", "agreement")},
            "metric_before": accuracy.metric_before,
            "metric_after": accuracy.metric_after,
        },
        "kept": outcome.kept,
        "refusals": [{"optimizer": refusal.optimizer, "reason": refusal.reason} for refusal in outcome.refusals],
    }


def _finite(value: float | None) -> float | None:
    """Return `value`, or None where nothing was measured: JSON has no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None


def _requested(names: Sequence[str], settings: Mapping[str, str]) -> list[tuple[Optimizer, Options]]:
    """Return the named optimizers in the order in which they apply, each with its options."""
    if not names:
        raise HotbenchError("no optimizer named; choose one with --with NAME")
    chosen = sorted(dict.fromkeys(names), key=lambda name: ORDER.index(optimizer_named(name).name))
    options = read_options(chosen, settings)
    return [(optimizer_named(name), options[name]) for name in chosen]
