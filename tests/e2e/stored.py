"""A store with one of everything that the pages show, made by hand with awkward names: no capture, no waiting."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from analyzer.experiment import experiment_id, save_experiment
from analyzer.identity import content_id
from analyzer.record import write_folder
from analyzer.run import Run, save_run, with_content_id
from app import workbench
from app.jobs.queue import Jobs
from app.store import Store, keeps, open_store, reviews
from optimizers.candidate import make_candidate, save_candidate
from optimizers.fusion.proof_record import FILE, save_proof
from tests.app.regions import proof
from tests.app.values import HOSTILE, report_candidate, report_experiment, report_run

COMMENT = f"what is {HOSTILE} doing here?"
TAG = "<b>baseline</b>"
HOSTILE_OP = 60


@dataclass(frozen=True)
class Stored:
    """The ids of what is in the store at `place`."""

    place: Path
    run: str
    other_run: str
    experiment: str
    artifact: str
    report: str
    failed_job: str


def fill(place: Path, user: str = "local") -> Stored:
    """Make the store and return what is in it."""
    with open_store(str(place)) as store:
        run = save(store, report_run(), tags=(TAG,))
        other = save(store, dataclasses.replace(report_run(), name="later", created="2026-01-03T03:04:05+00:00"))
        experiment = prove(store, run)
        keeps.keep(store, run.id, experiment, user)
        artifact = put_artifact(store, experiment)
        report = workbench.publish(store, experiment, user, "Fusing the cell").id
        reviews.add_comment(store, report, f"op:{HOSTILE_OP}", user, COMMENT)
        failed = fail_a_job(store, run.id, user)
    return Stored(place, run.id, other.id, experiment, artifact, report, failed)


def save(store: Store, drawn: Run, tags: tuple[str, ...] = ()) -> Run:
    """Save a run and return it with its id."""
    run = with_content_id(drawn)
    summary = {
        "device": run.device.kind,
        "training": run.training,
        "step_seconds": run.step_seconds.median,
        "peak_bytes": run.memory.peak_bytes,
        "ops": len(run.graph.ops),
    }
    store.save(
        "run",
        lambda folder: save_run(run, folder),
        name=run.name,
        created=run.created,
        summary=summary,
        tags=tags,
    )
    return run


def prove(store: Store, run: Run) -> str:
    """Save a candidate of the run with an experiment that found it faster; return the experiment's id."""
    (applied,) = report_candidate(run).applied
    blobs = {FILE: save_proof(proof()), "region_000000000002.py": f"# {HOSTILE}\n".encode()}
    candidate = make_candidate(run.id, run.workload, (dataclasses.replace(applied, blobs=blobs),))
    drawn = report_experiment(run, candidate)
    experiment = dataclasses.replace(drawn, id=experiment_id(drawn))
    store.save(
        "candidate",
        lambda folder: save_candidate(candidate, folder),
        name=f"{run.name} + fusion",
        parent=run.id,
        created=run.created,
        summary={"optimizers": ["fusion"]},
    )
    summary = {
        "verdict": experiment.verdict,
        "speedup": experiment.speedup.median,
        "reason": experiment.reason,
    }
    store.save(
        "experiment",
        lambda folder: save_experiment(experiment, folder),
        name=f"{run.name} + fusion",
        parent=candidate.id,
        created=experiment.created,
        summary=summary,
    )
    return experiment.id


def put_artifact(store: Store, experiment: str) -> str:
    """Save a folder that looks like an artifact; return its id. It loads nothing: only its listing is of use."""
    files = {"load.py": b"raise SystemExit('made by hand')\n", "weights.safetensors": b"\0" * 1234}
    identity = content_id("artifact", {name: len(data) for name, data in files.items()})
    entry = store.save(
        "artifact",
        lambda folder: write_folder(folder, dict(files), "artifact", identity),
        name="model.py:workload + fusion",
        parent=experiment,
        summary={
            "files": len(files),
            "loads_with": 'model = runpy.run_path("DIR/load.py")["load"]()',
            "max_abs_error_after_reload": 1.2e-7,
        },
    )
    return entry.id


def fail_a_job(store: Store, run: str, user: str) -> str:
    """Return the id of a job that went wrong, with an error that holds markup."""
    jobs = Jobs(store.database)
    job = jobs.submit("profile", {"workload": "/models/model.py:workload"}, title=HOSTILE, user=user, about=run)
    claimed = jobs.claim_local()
    assert claimed is not None and claimed.claim is not None
    jobs.finish(job.id, claimed.claim, "failed", error=f"the workload printed {HOSTILE}")
    return job.id
