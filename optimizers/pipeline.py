"""The loop from a run to a proven candidate: plan, apply, experiment; one function a step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.capture import capture
from analyzer.closeness import AccuracyGate
from analyzer.diagnosis.diagnose import diagnose
from analyzer.diagnosis.finding import Diagnosis
from analyzer.errors import HotbenchError
from analyzer.experiment import Experiment, run_experiment
from analyzer.launch import Launch, baseline_launch
from analyzer.progress import Progress, part, silent
from analyzer.run import Run
from analyzer.schedule import DEFAULT_SAMPLING
from analyzer.threads import torch_threads
from analyzer.workload import Workload, rebuild_workload
from optimizers.candidate import make_candidate, save_candidate
from optimizers.plan import Applied, Candidate, LaunchesItself, Optimizer, Options, Plan, Refusal
from optimizers.registry import ORDER, optimizer_named
from optimizers.settings import read_options

GATED_SEEDS = tuple(range(1, 17))


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
        if isinstance(plan, Refusal):
            answer: tuple[Workload, Applied] | Refusal = plan
        elif isinstance(optimizer, LaunchesItself):
            answer = optimizer.apply_after(tuple(applied), workload, plan, report)
        else:
            answer = optimizer.apply(workload, plan, report)
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
    gate = gate_of(candidate)
    baseline, changed = launches_of(run, candidate, folder)
    return run_experiment(
        baseline,
        changed,
        parent=candidate.id,
        training=run.training,
        max_error=max_error,
        max_slowdown=max(float(item.plan.options.get("max_slowdown", 0.0)) for item in candidate.applied),
        gate=gate,
        # Shares of equal answers need more answers than three to tell 97 from 99 %.
        sampling=DEFAULT_SAMPLING if gate is None else dataclasses.replace(DEFAULT_SAMPLING, seeds=GATED_SEEDS),
        progress=progress,
    )


def launches_of(run: Run, candidate: Candidate, folder: Path) -> tuple[Launch, Launch]:
    """Return what is measured against what: the run's own workload, unless the last optimizer brings its baseline."""
    last = candidate.applied[-1]
    optimizer = optimizer_named(last.plan.optimizer)
    if isinstance(optimizer, LaunchesItself):
        return optimizer.launches(run.workload, folder.absolute(), last, run.threads)
    changed = Launch(
        name="+".join(item.plan.optimizer for item in candidate.applied),
        entry="optimizers.candidate:launch_candidate",
        argument={"candidate": str(folder.absolute())},
        threads=run.threads,
    )
    return baseline_launch(run.workload, run.threads), changed


def gate_of(candidate: Candidate) -> AccuracyGate | None:
    """Return what the answers must keep, as the options of an optimizer that changes them say; None without such."""
    names = ("min_agreement", "min_cosine", "max_metric_drop")
    chosen = [{name: item.plan.options[name] for name in names if name in item.plan.options}
              for item in candidate.applied]  # fmt: skip
    given = next((options for options in chosen if options), None)
    return None if given is None else AccuracyGate(**given)


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
