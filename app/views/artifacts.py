"""What pages show of an artifact: its files, its hash, how it is loaded, and what proved it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analyzer.errors import HotbenchError, RecordError
from analyzer.record import MANIFEST, Manifest, from_plain, load_json
from app.reports.experiment_document import TONES
from app.store import Entry, Store

LOADS_ONNX_WITH = 'import onnxruntime\nsession = onnxruntime.InferenceSession("{folder}/model.onnx")'
LOADS_WITH = 'import runpy\nmodel = runpy.run_path("{folder}/load.py")["load"]()'


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """One file. bytes is None where it is missing."""

    name: str
    bytes: int | None
    sha256: str


@dataclass(frozen=True, slots=True)
class ArtifactView:
    """One artifact. problem says why it cannot be handed out, as far as a look at its folder tells."""

    id: str
    name: str
    created: str
    digest: str
    files: tuple[ArtifactFile, ...]
    experiment: str | None
    run: str | None
    verdict: str
    tone: str
    reload_error: float | None
    problem: str = ""
    format: str = "torch"

    @property
    def total_bytes(self) -> int:
        """Return the size of all files that are there."""
        return sum(file.bytes or 0 for file in self.files)

    @property
    def loads_with(self) -> str:
        """Return the lines that load it once it is unpacked."""
        return (LOADS_ONNX_WITH if self.format == "onnx" else LOADS_WITH).format(folder=self.id)


def artifact_view(store: Store, entry: Entry, entries: Sequence[Entry]) -> ArtifactView:
    """Return what the page shows of an artifact's entry; a damaged folder is told of, not raised."""
    known = {item.id: item for item in entries}
    experiment = known.get(entry.parent or "")
    candidate = known.get(experiment.parent or "") if experiment is not None else None
    verdict = str(experiment.summary.get("verdict", "")) if experiment is not None else ""
    error = entry.summary.get("max_abs_error_after_reload")
    files, problem = _files(store, entry)
    return ArtifactView(
        id=entry.id,
        name=entry.name,
        created=entry.created,
        digest=entry.digest,
        files=files,
        experiment=experiment.id if experiment is not None else None,
        run=candidate.parent if candidate is not None else None,
        verdict=verdict,
        tone=TONES.get(verdict, "warn"),
        reload_error=float(error) if isinstance(error, int | float) else None,
        problem=problem,
        format=str(entry.summary.get("format", "torch")),
    )


def _files(store: Store, entry: Entry) -> tuple[tuple[ArtifactFile, ...], str]:
    try:
        folder = store.folder(entry)
        manifest = from_plain(Manifest, load_json(folder / MANIFEST))
    except (HotbenchError, RecordError):
        return (), "its folder is gone from the store or cannot be read; export it again"
    files = tuple(
        ArtifactFile(name, _size(folder / name), sha256) for name, sha256 in sorted(manifest.files.items())
    )  # fmt: skip
    missing = [file.name for file in files if file.bytes is None]
    if missing:
        return files, f"{missing[0]} is missing; export it again"
    if manifest.digest() != entry.digest:
        return files, "its manifest is not the one that was saved; export it again"
    return files, ""


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
