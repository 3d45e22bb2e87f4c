"""Where an experiment stands: kept or not, exported or not, written about or not. Derived from the store alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.jobs.job import Job
from app.jobs.queue import Jobs
from app.store import Entry, Store
from app.store.keeps import PROVEN, Keep, history, verdict_of


@dataclass(frozen=True, slots=True)
class ExperimentState:
    """What can be done with an experiment, and what was.

    run:     whose candidate it measured; None where it compares two runs.
    keep:    the mark in effect. ended: the last one that was undone, where none is in effect.
    export:  the latest export job. artifact, onnx: the newest artifacts of these formats. reports: newest first.
    """

    experiment: str
    verdict: str
    run: str | None
    optimizers: tuple[str, ...] = ()
    keep: Keep | None = None
    ended: Keep | None = None
    artifact: Entry | None = None
    onnx: Entry | None = None
    export: Job | None = None
    reports: tuple[Entry, ...] = ()

    @property
    def has_onnx(self) -> bool:
        """Return whether an ONNX model may be exported: of compressed layers alone, as far as the store tells."""
        return self.proven and self.optimizers == ("quantization",)

    @property
    def exported(self) -> Entry | None:
        """Return the artifact of the latest export job's format; None where there is none yet."""
        job = self.export
        return self.onnx if job is not None and job.arguments.get("format") == "onnx" else self.artifact

    @property
    def proven(self) -> bool:
        """Return whether it may be kept and exported."""
        return self.run is not None and self.verdict in PROVEN


def experiment_state(store: Store, jobs: Jobs, experiment: str) -> ExperimentState:
    """Return where the experiment with that id stands. Raises StoreError if there is none."""
    entry = store.find(experiment, ("experiment",))
    entries = store.entries()
    parent = next((item for item in entries if item.id == entry.parent), None)
    is_candidate = parent is not None and parent.kind == "candidate"
    run = parent.parent if parent is not None and is_candidate else None
    marks = [mark for mark in history(store, run) if mark.experiment == entry.id] if run else []
    newest = marks[0] if marks else None
    exports = [
        job for job in jobs.list(about=entry.id, limit=100) if job.kind == "export" and not job.arguments.get("region")
    ]
    return ExperimentState(
        experiment=entry.id,
        verdict=verdict_of(store, entry),
        run=run,
        optimizers=tuple(parent.summary.get("optimizers", ())) if parent is not None and is_candidate else (),
        keep=newest if newest is not None and newest.undone is None else None,
        ended=newest if newest is not None and newest.undone is not None else None,
        artifact=_artifact(entries, entry.id, "torch"),
        onnx=_artifact(entries, entry.id, "onnx"),
        export=exports[0] if exports else None,
        reports=tuple(item for item in entries if item.kind == "report" and item.parent == entry.id),
    )


def _artifact(entries: Sequence[Entry], experiment: str, format: str) -> Entry | None:
    """Return the newest artifact of an experiment in a format; those that do not name theirs are of torch."""
    own = (item for item in entries if item.kind == "artifact" and item.parent == experiment)
    return next((item for item in own if item.summary.get("format", "torch") == format), None)
