"""Downloads: an artifact as a zip, a published report as HTML or Markdown. Only what is as it was saved leaves."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from flask import Blueprint, Response, jsonify, request

from analyzer.errors import HotbenchError, RecordError
from analyzer.record import MANIFEST, Manifest, file_hash
from app.reports.publish import HTML, MARKDOWN
from app.store.errors import StoreError
from app.store.verified import verified
from app.web.context import context

blueprint = Blueprint("artifacts", __name__)

_CHUNK_BYTES = 1 << 16
_READABLE = 0o100644 << 16
# The earliest time that a zip can hold: equal artifacts give equal files.
_MOMENT = (1980, 1, 1, 0, 0, 0)
# Without allow-same-origin the report's scripts run as nobody: no cookie, no request, no reach into the page.
_REPORT_POLICY = (
    "sandbox allow-scripts allow-popups; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@blueprint.get("/api/artifacts/<id>.zip")
def artifact_zip(id: str) -> Response:
    """Return an artifact's folder as a zip, after its files were checked against their hashes."""
    found = verified(context().store, "artifact", id)
    return _download(stream_zip(found.folder, found.manifest), "application/zip", f"{found.entry.id}.zip")


@blueprint.get("/api/reproducers/<id>.zip")
def reproducer_zip(id: str) -> Response:
    """Return the folder of one exported kernel as a zip, after its files were checked against their hashes."""
    found = verified(context().store, "reproducer", id)
    return _download(stream_zip(found.folder, found.manifest), "application/zip", f"{found.entry.id}.zip")


@blueprint.get("/api/reports/<id>.html")
def report_html(id: str) -> Response:
    """Return a published report's HTML, sandboxed; with ?download=1 as a file to save."""
    found = verified(context().store, "report", id)
    data = (found.folder / HTML).read_bytes()
    attached = "download" in request.args
    response = _download(data, "text/html; charset=utf-8", f"{found.entry.id}.html", attached)
    response.headers["Content-Security-Policy"] = _REPORT_POLICY
    return response


@blueprint.get("/api/reports/<id>.md")
def report_markdown(id: str) -> Response:
    """Return a published report's Markdown as a file to save."""
    found = verified(context().store, "report", id)
    data = (found.folder / MARKDOWN).read_bytes()
    return _download(data, "text/markdown; charset=utf-8", f"{found.entry.id}.md")


@blueprint.errorhandler(HotbenchError)
def refuse(error: HotbenchError) -> tuple[Response, int]:
    """Return the refusal in words: 404 for what the store does not hold, 409 for what is not as it was saved."""
    return jsonify({"error": str(error)}), 404 if isinstance(error, StoreError) else 409


def stream_zip(folder: Path, manifest: Manifest) -> Iterator[bytes]:
    """Yield a zip of a saved folder: names in order, below a folder named by the id, nothing compressed.

    Raises RecordError, and so ends the download early, where a file changes while it is read.
    """
    buffer = _Buffer()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        expected = {**manifest.files, MANIFEST: file_hash(folder / MANIFEST)}
        for name in sorted(expected):
            digest = hashlib.sha256()
            with (folder / name).open("rb") as source, archive.open(_info(folder, manifest.id, name), "w") as target:
                while chunk := source.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    target.write(chunk)
                    yield buffer.take()
            if digest.hexdigest() != expected[name]:
                raise RecordError(f"{name} of {manifest.id} changed while it was read; download it again")
    yield buffer.take()


def _info(folder: Path, id: str, name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(f"{id}/{name}", _MOMENT)
    info.external_attr = _READABLE
    # The size decides whether the entry gets the long form; it must be known before the first byte.
    info.file_size = (folder / name).stat().st_size
    return info


class _Buffer(io.RawIOBase):
    """What zipfile writes, until it is taken: a stream that cannot seek."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: object) -> int:
        """Keep the bytes; return how many."""
        part = bytes(data)  # type: ignore[call-overload]
        self._parts.append(part)
        return len(part)

    def take(self) -> bytes:
        """Return what was written since the last call."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def _download(data: bytes | Iterator[bytes], mime: str, name: str, attached: bool = True) -> Response:
    response = Response(data, mimetype=None, content_type=mime)
    disposition = "attachment" if attached else "inline"
    response.headers["Content-Disposition"] = f'{disposition}; filename="{name}"'
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "private, no-store"
    return response
