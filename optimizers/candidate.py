"""Candidates: what was applied to a workload, saved so that a fresh process can repeat it exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.errors import RecordError
from analyzer.identity import content_id
from analyzer.record import dump_json, from_plain, load_json, read_folder, to_plain, write_folder
from analyzer.workload import Workload, WorkloadReference, rebuild_workload
from optimizers.plan import FORMAT_VERSION, Applied, Candidate, Plan
from optimizers.registry import optimizer_named

KIND = "candidate"


@dataclass(frozen=True, slots=True)
class _SavedApplied:
    plan: Plan
    decisions: dict[str, Any]
    blobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _SavedCandidate:
    id: str
    parent: str
    reference: WorkloadReference
    applied: tuple[_SavedApplied, ...]
    notes: tuple[str, ...]
    format_version: int


def make_candidate(
    run_id: str, reference: WorkloadReference, applied: tuple[Applied, ...], notes: tuple[str, ...] = ()
) -> Candidate:
    """Return the candidate, its id derived from all that its rebuilding depends on."""
    content = [
        (item.plan, item.decisions, {name: hashlib.sha256(blob).hexdigest() for name, blob in item.blobs.items()})
        for item in applied
    ]
    return Candidate(content_id(KIND, (run_id, reference, content)), run_id, reference, applied, notes)


def save_candidate(candidate: Candidate, folder: Path) -> None:
    """Write the candidate into `folder`, whole or not at all. Raises RecordError."""
    saved = _SavedCandidate(
        candidate.id,
        candidate.parent,
        candidate.reference,
        tuple(_SavedApplied(item.plan, item.decisions, tuple(item.blobs)) for item in candidate.applied),
        candidate.notes,
        candidate.format_version,
    )
    files: dict[str, bytes] = {"candidate.json": dump_json(to_plain(saved))}
    for position, item in enumerate(candidate.applied):
        files.update({_blob_path(position, name): blob for name, blob in item.blobs.items()})
    write_folder(folder, dict(files), KIND, candidate.id)


def load_candidate(folder: Path) -> Candidate:
    """Return the candidate saved in `folder`. Raises RecordError where it is missing, changed or too new."""
    manifest = read_folder(folder, KIND)
    saved = from_plain(_SavedCandidate, load_json(folder / "candidate.json"))
    if saved.format_version > FORMAT_VERSION:
        raise RecordError(f"candidate {saved.id} has format {saved.format_version}, newer than this version: upgrade")
    applied = tuple(
        Applied(item.plan, item.decisions, _read_blobs(folder, position, item.blobs, manifest.files))
        for position, item in enumerate(saved.applied)
    )
    return Candidate(saved.id, saved.parent, saved.reference, applied, saved.notes, saved.format_version)


def rebuild_candidate(candidate: Candidate) -> Workload:
    """Return the optimized workload, built afresh from source and decisions.

    Raises WorkloadError or RecordError when the source, the initial state or a decision no longer matches.
    """
    workload = rebuild_workload(candidate.reference)
    for item in candidate.applied:
        workload = optimizer_named(item.plan.optimizer).rebuild(workload, item)
    return workload


def launch_candidate(argument: Mapping[str, Any]) -> Workload:
    """Return the optimized workload of the candidate folder in `argument["candidate"]`: a Launch's entry."""
    return rebuild_candidate(load_candidate(Path(argument["candidate"])))


def _blob_path(position: int, name: str) -> str:
    return f"blobs/{position}/{name}"


def _read_blobs(folder: Path, position: int, names: tuple[str, ...], files: Mapping[str, str]) -> dict[str, bytes]:
    # Only what the manifest vouches for: another name could lead out of the folder.
    strange = next((name for name in names if _blob_path(position, name) not in files), None)
    if strange is not None:
        raise RecordError(f"the candidate in {folder} names a file that its manifest does not: {strange!r}")
    return {name: (folder / _blob_path(position, name)).read_bytes() for name in names}
