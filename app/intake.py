"""Values that a worker hands over: laid aside while they arrive, checked, and saved together when the job is done.

A worker's folder is data: it is read with the same loaders as our own, its code is never run on this machine.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from analyzer.errors import HotbenchError, RecordError
from analyzer.record import Manifest, load_json, read_folder
from app.jobs.job import Job
from app.store import Entry, Store
from app.worker.transfer import MAX_PACKED_BYTES, MAX_UNPACKED_BYTES, unpack

KINDS: Mapping[str, tuple[str, ...]] = {
    "profile": ("run",),
    "optimize": ("candidate", "experiment"),
    "compare": ("experiment",),
    "export": ("artifact", "reproducer"),
    "largest-batch": (),
}
"""What a job of each kind may hand over, parents first."""
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Intake:
    """What the holder of one claim has handed over so far. `place_name` is the worker's."""

    store: Store
    job: Job
    place_name: str

    @property
    def folder(self) -> Path:
        """Return where it is laid aside; the store's sweep removes what is left of it after an hour."""
        return self.store.database.location.blobs / f".{self.job.claim}.partial"

    def put(
        self,
        kind: str,
        id: str,
        stream: IO[bytes],
        max_packed: int = MAX_PACKED_BYTES,
        max_unpacked: int = MAX_UNPACKED_BYTES,
    ) -> None:
        """Lay one packed value aside; a repeated one replaces the first.

        Raises RecordError for a kind that this job does not give, and for a folder that is not whole, not of that
        kind or not `id`.
        """
        if kind not in KINDS.get(self.job.kind, ()):
            raise RecordError(f"a job of kind {self.job.kind!r} gives no {kind!r}; nothing was taken")
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".arriving-") as place:
            archive = Path(place) / "value.zip"
            _copy(stream, archive, max_packed)
            unpacked = Path(place) / "value"
            with archive.open("rb") as packed:
                unpack(packed, unpacked, max_unpacked)
            manifest = _checked(unpacked, kind)
            if manifest.id != id:
                raise RecordError(f"the upload is {manifest.id}, not {id}; nothing was taken")
            shutil.rmtree(self.folder / kind, ignore_errors=True)
            unpacked.rename(self.folder / kind)

    def save(self, values: Sequence[tuple[str, str]], result: Mapping[str, Any]) -> tuple[Entry, ...]:
        """Save the named (kind, id) values into the store, parents first; return their entries.

        What was saved by an earlier try is left as it is. Raises HotbenchError where one is missing, does not follow
        from the job, or cannot be read: a candidate that has no experiment is not kept then.
        """
        wanted = dict(values)
        if len(wanted) != len(values) or not set(wanted) <= set(KINDS.get(self.job.kind, ())):
            raise RecordError(f"a job of kind {self.job.kind!r} does not give {', '.join(kind for kind, _ in values)}")
        _check_complete(self.job, wanted, result)
        saved: list[Entry] = []
        try:
            for kind in KINDS[self.job.kind]:
                if kind in wanted:
                    saved.append(self._save(kind, wanted[kind], saved, result))
        except BaseException:
            for entry in reversed(saved):
                self.store.discard(entry)
            raise
        return tuple(saved)

    def clear(self) -> None:
        """Remove what was laid aside."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _save(self, kind: str, id: str, saved: Sequence[Entry], result: Mapping[str, Any]) -> Entry:
        before = [entry for entry in self.store.entries(kind) if entry.id == id]
        if before:
            return before[0]
        staged = self.folder / kind
        if not staged.is_dir():
            raise RecordError(f"{kind} {id} was not handed over; send it before the end of the job")
        if read_folder(staged, kind).id != id:
            raise RecordError(f"another {kind} than {id} was handed over last; send it again")
        try:
            about = _ABOUT[kind](self.store, self.job, staged, saved, result)
        except RecursionError as error:
            raise RecordError(f"{kind} {id} is nested too deep to be one of ours") from error
        summary = {**about.summary, "place": self.job.place, "place_name": self.place_name}
        return self.store.adopt(
            staged, kind, name=about.name[:400], parent=about.parent, created=about.created, summary=summary
        )


@dataclass(frozen=True, slots=True)
class _About:
    name: str
    parent: str | None
    summary: Mapping[str, Any]
    created: str = ""


def _run(_store: Store, _job: Job, folder: Path, _saved: Sequence[Entry], _result: Mapping[str, Any]) -> _About:
    from analyzer.run import load_run
    from app.workbench import run_summary

    run = load_run(folder)
    return _About(run.name, None, run_summary(run), run.created)


def _candidate(store: Store, job: Job, folder: Path, _saved: Sequence[Entry], _result: Mapping[str, Any]) -> _About:
    from optimizers.candidate import load_candidate

    candidate = load_candidate(folder)
    run = store.find(str(job.arguments["run"]), ("run",))
    if candidate.parent != run.id:
        raise RecordError(f"{candidate.id} was made from {candidate.parent}, not from {run.id}; nothing was saved")
    names = [item.plan.optimizer for item in candidate.applied]
    return _About(f"{run.name} + {', '.join(names)}", run.id, {"optimizers": names})


def _experiment(store: Store, job: Job, folder: Path, saved: Sequence[Entry], result: Mapping[str, Any]) -> _About:
    from analyzer.experiment import load_experiment
    from app.workbench import experiment_summary

    experiment = load_experiment(folder)
    parent = saved[-1] if saved else store.find(str(job.arguments.get("before")), ("run",))
    if experiment.parent != parent.id:
        raise RecordError(f"{experiment.id} is about {experiment.parent}, not about {parent.id}; nothing was saved")
    if result.get("verdict") != experiment.verdict:
        raise RecordError(
            f"{experiment.id} ended {experiment.verdict!r}, not {result.get('verdict')!r}; nothing was saved"
        )
    name = saved[-1].name if saved else ""
    if not saved:
        name = f"{parent.name} against {store.find(str(job.arguments['after']), ('run',)).name}"
    return _About(name, parent.id, experiment_summary(experiment), experiment.created)


def _artifact(store: Store, job: Job, folder: Path, _saved: Sequence[Entry], result: Mapping[str, Any]) -> _About:
    from optimizers.artifact import ONNX, loads_with

    experiment = store.find(str(job.arguments["experiment"]), ("experiment",))
    error = result.get("max_abs_error_after_reload")
    if not isinstance(error, int | float) or not math.isfinite(error):
        raise RecordError(f"the export does not say how exactly the artifact reloads ({error!r}); export it again")
    files = len(read_folder(folder, "artifact").files)
    format = ONNX if job.arguments.get("format") == ONNX else "torch"
    facts = {"format": format, "files": files, "loads_with": loads_with(format)}
    facts["max_abs_error_after_reload"] = float(error)
    return _About(experiment.name, experiment.id, facts)


def _reproducer(store: Store, job: Job, folder: Path, _saved: Sequence[Entry], result: Mapping[str, Any]) -> _About:
    from app.reproducers import reproducer_facts

    experiment = store.find(str(job.arguments["experiment"]), ("experiment",))
    kernel = str(job.arguments.get("region"))
    if result.get("kernel") != kernel:
        raise RecordError(f"the export gives {str(result.get('kernel'))[:80]!r}, not {kernel!r}; export it again")
    files = len(read_folder(folder, "reproducer").files)
    return _About(f"{experiment.name}: {kernel}", experiment.id, reproducer_facts(kernel, files))


_ABOUT = {
    "run": _run,
    "candidate": _candidate,
    "experiment": _experiment,
    "artifact": _artifact,
    "reproducer": _reproducer,
}


def _check_complete(job: Job, values: Mapping[str, str], result: Mapping[str, Any]) -> None:
    """Raise RecordError where what a worker says of the result is not what it handed over."""
    told = {kind: result.get(kind) for kind in _ABOUT if result.get(kind)}
    if told != dict(values):
        raise RecordError(f"the result of {job.id} names {told or 'nothing'}, but {dict(values) or 'nothing'} was sent")
    wanted = {"profile": "run", "export": "reproducer" if job.arguments.get("region") else "artifact"}
    if job.kind in wanted and not values:
        raise RecordError(f"{job.id} is said to be done, but nothing was handed over")
    if job.kind in wanted and set(values) != {wanted[job.kind]}:
        raise RecordError(f"{job.id} was to give a {wanted[job.kind]}, but {', '.join(values)} was handed over")
    if job.kind == "optimize" and values and len(values) != len(KINDS["optimize"]):
        raise RecordError(f"{job.id} gives a candidate with its experiment, or neither")


def _checked(folder: Path, kind: str) -> Manifest:
    """Return the manifest of an unpacked folder that holds what it names and nothing else."""
    manifest = read_folder(folder, kind)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    extra = sorted(found - set(manifest.files) - {"manifest.json"})
    if extra:
        raise RecordError(f"the upload holds {extra[0]!r}, which its manifest does not name; nothing was taken")
    if kind == "candidate":
        _check_blobs(folder, manifest)
    return manifest


def _check_blobs(folder: Path, manifest: Manifest) -> None:
    """Refuse a candidate whose blobs are other files than its own: their names become paths."""
    saved = load_json(folder / "candidate.json")
    try:
        named = [f"blobs/{place}/{name}" for place, item in enumerate(saved["applied"]) for name in item["blobs"]]
    except (KeyError, TypeError) as error:
        raise RecordError(f"{manifest.id} is no saved candidate: {error}") from error
    foreign = [name for name in named if name not in manifest.files]
    if foreign:
        raise RecordError(f"{manifest.id} names a blob that it does not hold: {foreign[0]!r}; nothing was taken")


def _copy(stream: IO[bytes], target: Path, most: int) -> None:
    size = 0
    with target.open("xb") as sink:
        while block := stream.read(_CHUNK):
            size += len(block)
            if size > most:
                raise HotbenchError(f"the upload is larger than {most} bytes; nothing was taken")
            sink.write(block)
