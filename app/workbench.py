"""What the command line, jobs and pages all call: the pipeline over a store. Values in, values out."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzer.diagnosis.diagnose import diagnose
from analyzer.diagnosis.finding import Diagnosis
from analyzer.errors import HotbenchError
from analyzer.experiment import Experiment, load_experiment, save_experiment
from analyzer.progress import Progress, part, silent
from analyzer.record import to_plain
from analyzer.run import Run, load_run
from analyzer.summary import show_summary
from app.child import check_finished, run_child
from app.reports import write_experiment_report, write_run_report
from app.store import Entry, Store
from app.workloads import check_local, is_local, place_name
from optimizers.plan import Candidate

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from analyzer.comparison import Comparison
    from app.reports.document import Document
    from app.store.reviews import Review
    from optimizers.artifact import Artifact
    from optimizers.pipeline import Outcome

# The optimizers with their compiler are imported where they are used: profile, show and diagnose start without them.

Echo = Callable[[str], None]
_ERROR = "error: "
_REPORTED_OPS = 15


@dataclass(frozen=True)
class Proof:
    """An experiment with what it is about. A comparison of two runs has no candidate."""

    experiment: Experiment
    candidate: Candidate | None
    run: Run


def ignore(_line: str) -> None:
    """Drop a line that the user's code printed."""


def profile(
    store: Store,
    workload: str,
    *,
    device: str = "auto",
    steps: int | None = None,
    threads: int | None = None,
    progress: Progress = silent,
    echo: Echo = ignore,
) -> Run:
    """Capture `path/to/file.py:function` in a process of its own, save the run and return it.

    Raises HotbenchError when the workload or its process fails: nothing is saved then.
    """
    with store.staging() as staging:
        folder = staging / "run"
        command = [sys.executable, "-m", "analyzer", "capture", workload, "-o", str(folder)]
        command += ["--device", device, "--progress", "json", "--json"]
        command += ["--steps", str(steps)] if steps is not None else []
        command += ["--threads", str(threads)] if threads is not None else []
        finished = run_child(command, part(progress, 0.0, 0.97), _without_summary(echo), _ERROR)
        check_finished("capture", finished, _ERROR)
        progress("save the run", 0.97)
        run = load_run(folder)
        store.adopt(
            folder, "run", name=run.name, created=run.created, summary=run_summary(run), parent=_parent(store, run)
        )
    progress("done", 1.0)
    return run


def _without_summary(echo: Echo) -> Echo:
    """Return `echo` without the summary that a capture prints at its end: we read the folder itself."""
    return lambda line: None if line.startswith('{"run": "') else echo(line)


def read_run(store: Store, text: str) -> Run:
    """Return the run that `text` names. Raises StoreError if there is none, RecordError if its folder is corrupt."""
    return load_run(store.folder(store.find(text, ("run",))))


def read_diagnosis(store: Store, text: str) -> tuple[Run, Diagnosis]:
    """Return a run and its findings."""
    run = read_run(store, text)
    return run, diagnose(run)


def optimize(
    store: Store,
    text: str,
    names: Sequence[str],
    settings: Mapping[str, str],
    *,
    max_error: float | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Apply the named optimizers to a run's workload, prove the result, save candidate and experiment.

    An outcome without a candidate says why every optimizer refused.
    """
    from optimizers.candidate import save_candidate
    from optimizers.pipeline import Outcome, apply_plans, prove

    check_local(store.find(text, ("run",)))
    run = read_run(store, text)
    outcome = apply_plans(run, names, settings, part(progress, 0.0, 0.4))
    if outcome.candidate is None:
        return outcome
    candidate = outcome.candidate
    entry = store.save(
        "candidate",
        lambda folder: save_candidate(candidate, folder),
        name=f"{run.name} + {', '.join(item.plan.optimizer for item in candidate.applied)}",
        parent=run.id,
        summary={"optimizers": [item.plan.optimizer for item in candidate.applied]},
    )
    try:
        experiment = prove(run, candidate, store.folder(entry), max_error, part(progress, 0.4, 1.0))
        _save_experiment(store, experiment, entry.name)
    except BaseException:
        # A candidate that was never measured is of no use to anybody.
        store.discard(entry)
        raise
    return Outcome(outcome.proposal, candidate, experiment, outcome.refusals)


def largest_batch(
    store: Store,
    text: str,
    budget: str,
    *,
    axis: int = 0,
    allow: str = "swap,recompute",
    folder: str = "",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Return the largest batch of a run's workload whose training step was run within a budget, as plain values.

    axis: of the inputs; 1 is mostly the sequence. allow: as swap's option. Nothing is saved.
    Raises HotbenchError where not even one item fits, or the step is not one that is fitted.
    """
    from analyzer.threads import torch_threads
    from analyzer.workload import rebuild_workload
    from optimizers.swap.fit_batch import largest_batch
    from optimizers.swap.optimizer import SwapOptions

    check_local(store.find(text, ("run",)))
    run = read_run(store, text)
    options = SwapOptions(budget=budget, allow=allow, folder=folder)
    if not run.training:
        raise HotbenchError(f"the step of {run.id} does not train: it saves nothing for a backward that could be moved")
    if run.device.kind != "cpu":
        raise HotbenchError(f"budgets are kept on a CPU only; {run.id} was captured on {run.device.kind}")
    with torch_threads(run.threads):
        workload = rebuild_workload(run.workload)
        found = largest_batch(
            workload, options.budget, options.methods, options.folder or None, axis=axis, progress=progress
        )
    progress("done", 1.0)
    return {"run": run.id, "axis": axis, **found.as_dict()}


def read_proof(store: Store, text: str) -> Proof:
    """Return the experiment that `text` names with its candidate and run."""
    from optimizers.candidate import load_candidate

    experiment = load_experiment(store.folder(store.find(text, ("experiment",))))
    parent = store.get(experiment.parent)
    if parent.kind == "run":
        return Proof(experiment, None, load_run(store.folder(parent)))
    candidate = load_candidate(store.folder(parent))
    return Proof(experiment, candidate, load_run(store.folder(store.get(candidate.parent))))


def export(store: Store, text: str, folder: Path, format: str = "torch") -> dict[str, Any]:
    """Write the artifact of an experiment's candidate into `folder`, and a copy into the store.

    format: "torch" or "onnx". Returns what was written, as plain values.

    Raises HotbenchError for an experiment that only compared two runs, or a candidate that has no such format.
    """
    from optimizers.artifact import export_artifact

    proof = read_candidate(store, text)
    artifact = export_artifact(proof.candidate, proof.experiment, folder, format)
    if store.writable:
        store.save(
            "artifact",
            lambda target: shutil.copytree(folder, target),
            name=f"{proof.run.name}: {folder.name}",
            parent=proof.experiment.id,
            summary={"folder": str(folder.absolute()), **_artifact_facts(artifact, format)},
        )
    return artifact_summary(artifact, folder)


def export_to_store(store: Store, text: str, progress: Progress = silent, format: str = "torch") -> Entry:
    """Save the artifact of an experiment's candidate in the store alone, for the page to hand out; return its entry.

    Raises HotbenchError as `export` does.
    """
    from optimizers.artifact import export_artifact

    proof = read_candidate(store, text)
    progress("write the artifact and load it in a fresh process", 0.1)
    with store.staging() as staging:
        artifact = export_artifact(proof.candidate, proof.experiment, staging / "artifact", format)
        progress("save the artifact", 0.9)
        entry = store.adopt(
            staging / "artifact",
            "artifact",
            name=f"{proof.run.name} + {', '.join(item.plan.optimizer for item in proof.candidate.applied)}",
            parent=proof.experiment.id,
            summary=_artifact_facts(artifact, format),
        )
    progress("done", 1.0)
    return entry


@dataclass(frozen=True)
class Exportable:
    """An experiment with its candidate, which this machine can build again."""

    experiment: Experiment
    candidate: Candidate
    run: Run


def read_candidate(store: Store, text: str) -> Exportable:
    """Return an experiment with its candidate.

    Raises HotbenchError for a comparison of two runs, and for what only another machine can build again.
    """
    proof = read_proof(store, text)
    if proof.candidate is None:
        raise HotbenchError(f"{proof.experiment.id} compares two runs: it has no candidate to export")
    check_local(store.get(proof.candidate.id))
    return Exportable(proof.experiment, proof.candidate, proof.run)


def _artifact_facts(artifact: Artifact, format: str) -> dict[str, Any]:
    return {
        "format": format,
        "files": len(artifact.files),
        "loads_with": artifact.loads_with,
        "max_abs_error_after_reload": artifact.max_abs_error_after_reload,
    }


def artifact_summary(artifact: Artifact, folder: Path) -> dict[str, Any]:
    """Return the command line's JSON of an exported artifact."""
    plain: dict[str, Any] = to_plain(artifact)
    place = str(folder.absolute())
    return {**plain, "folder": place, "loads_with": artifact.loads_with.replace("DIR", place)}


def compare(store: Store, before: str, after: str, progress: Progress = silent) -> Comparison:
    """Return how run `after` compares with run `before`; where both were measured anew, that experiment is saved."""
    from analyzer.comparison import compare_runs

    first, second = _run_to_repeat(store, before), _run_to_repeat(store, after)
    comparison = compare_runs(first, second, progress=progress)
    if comparison.experiment is not None:
        _save_experiment(store, comparison.experiment, f"{first.name} against {second.name}")
    return comparison


def report(store: Store, text: str, path: Path) -> Path:
    """Write the report of the run or experiment that `text` names; return the file's absolute path."""
    entry = store.find(text, ("run", "experiment"))
    if entry.kind == "run":
        run = load_run(store.folder(entry))
        write_run_report(run, diagnose(run), show_summary(run, _REPORTED_OPS)["ops"], path)
    else:
        proof = read_proof(store, entry.id)
        write_experiment_report(proof.experiment, proof.candidate, proof.run, path)
    return path.absolute()


def read_document(store: Store, text: str) -> tuple[Document, dict[str, go.Figure]]:
    """Return the report of the run or experiment that `text` names as values, and its figures by name."""
    from app.reports.experiment_document import experiment_document
    from app.reports.run_document import run_document
    from app.reports.write import proof_figures, run_figures

    entry = store.find(text, ("run", "experiment"))
    if entry.kind == "run":
        run = load_run(store.folder(entry))
        ops = show_summary(run, _REPORTED_OPS)["ops"]
        return run_document(run, diagnose(run), ops), run_figures(run, ops)
    proof = read_proof(store, entry.id)
    document = experiment_document(proof.experiment, proof.candidate, proof.run)
    return document, proof_figures(proof.experiment, proof.candidate, proof.run)


def publish(store: Store, text: str, user: str, title: str = "") -> Entry:
    """Save the report of a run or experiment as it is now, for others to comment on; nobody can change it after."""
    from app.reports.publish import KIND, About, checked_title, save_published

    entry = store.find(text, ("run", "experiment"))
    document, figures = read_document(store, entry.id)
    artifact = latest_artifact(store, entry.id)
    about = About(
        title=checked_title(title, document.title),
        value=entry.id,
        published_by=user,
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        artifact=artifact.id if artifact else "",
        artifact_digest=artifact.digest if artifact else "",
    )
    return store.save(
        KIND,
        lambda folder: save_published(folder, about, document, figures),
        name=about.title,
        parent=entry.id,
        created=about.created,
        summary={
            "title": about.title,
            "artifact": about.artifact,
            "artifact_digest": about.artifact_digest,
            "published_by": user,
            "about": entry.kind,
            "verdict": document.verdict,
        },
    )


def latest_artifact(store: Store, experiment: str) -> Entry | None:
    """Return the newest artifact that was exported of an experiment, None if there is none."""
    return next((entry for entry in store.entries("artifact") if entry.parent == experiment), None)


def run_entry_of(store: Store, entry: Entry) -> Entry:
    """Return the entry of the run that a report, an artifact, an experiment or a candidate goes back to.

    Raises StoreError where the store does not hold the whole chain.
    """
    while entry.kind != "run" and entry.parent is not None:
        entry = store.get(entry.parent)
    return entry


def decide_on(store: Store, report: Entry, decision: str, user: str, text: str) -> Review:
    """Write down a decision on a published report, bound to the artifact as it lies in the store now; return it.

    Raises RecordError where the report or the artifact is not as it was saved.
    """
    from app.store.reviews import add_review
    from app.store.verified import verified

    verified(store, "report", report.id)
    artifact = latest_artifact(store, report.parent or "")
    digest = verified(store, "artifact", artifact.id).manifest.digest() if artifact is not None else ""
    return add_review(store, report.id, decision, user, digest, text)


def _save_experiment(store: Store, experiment: Experiment, name: str) -> Entry:
    return store.save(
        "experiment",
        lambda folder: save_experiment(experiment, folder),
        name=name,
        parent=experiment.parent,
        created=experiment.created,
        summary=experiment_summary(experiment),
    )


def experiment_summary(experiment: Experiment) -> dict[str, object]:
    """Return what the store's entry says of an experiment, for lists."""
    return {"verdict": experiment.verdict, "speedup": experiment.speedup.median, "reason": experiment.reason}


def run_summary(run: Run) -> dict[str, object]:
    """Return what the store's entry says of a run, for lists."""
    return {
        "device": run.device.kind,
        "device_name": run.device.name,
        "training": run.training,
        "step_seconds": run.step_seconds.median,
        "peak_bytes": run.memory.peak_bytes,
        "ops": len(run.graph.ops),
    }


def _run_to_repeat(store: Store, text: str) -> Run:
    """Return a run that may be measured anew; one from a worker names no file of this machine, so that it cannot."""
    entry = store.find(text, ("run",))
    run = load_run(store.folder(entry))
    if is_local(entry):
        return run
    elsewhere = Path(f"files of {place_name(entry)}", Path(run.workload.path).name)
    return replace(run, workload=replace(run.workload, path=str(elsewhere)))


def _parent(store: Store, run: Run) -> str | None:
    known = {entry.id for entry in store.entries("run")}
    return run.parent if run.parent in known else None
