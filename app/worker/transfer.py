"""Folders on the wire: packed as a zip with a fixed order, unpacked with every name and size checked.

A zip's sizes stand in plain sight, so that a small upload cannot grow beyond `max_bytes`; links are refused.
"""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

from analyzer.errors import RecordError

MAX_PACKED_BYTES = 4 << 30
MAX_UNPACKED_BYTES = 8 << 30
MAX_FILES = 10_000
_MAX_NAME = 400
_MAX_PART = 200
_CHUNK = 1 << 20
_DATE = (1980, 1, 1, 0, 0, 0)


def pack(folder: Path, stream: IO[bytes]) -> None:
    """Write the regular files of `folder` into `stream` as a zip: the same files give the same bytes."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(entry, "w") as target:
                while block := source.read(_CHUNK):
                    target.write(block)


def unpack(stream: IO[bytes], folder: Path, max_bytes: int = MAX_UNPACKED_BYTES) -> None:
    """Unpack into the new folder `folder`.

    Raises RecordError for what is no zip, for names that lead out, links, repeated names, too many or too big files;
    what was written by then is left for the caller to remove.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
            _check(entries, max_bytes)
            folder.mkdir(parents=True)
            for entry in entries:
                _extract(archive, entry, folder)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise RecordError(f"the upload is no readable zip ({error}); send it again") from error
    except OSError as error:
        raise RecordError(f"the upload cannot be unpacked: {error.strerror or error}; free space there") from error


def _check(entries: list[zipfile.ZipInfo], max_bytes: int) -> None:
    if len(entries) > MAX_FILES:
        raise RecordError(f"the upload holds {len(entries)} files; at most {MAX_FILES} are taken")
    size = sum(entry.file_size for entry in entries)
    if size > max_bytes:
        raise RecordError(f"the upload unpacks to {size} bytes; at most {max_bytes} are taken")
    names = set()
    for entry in entries:
        _check_name(entry)
        if entry.filename in names:
            raise RecordError(f"the upload names {entry.filename!r} twice; it is corrupt")
        names.add(entry.filename)


def _check_name(entry: zipfile.ZipInfo) -> None:
    name, kind = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
    parts = PurePosixPath(name).parts
    outside = not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name
    outside = outside or len(name) > _MAX_NAME or max(map(len, parts)) > _MAX_PART
    if outside or not name.isprintable() or entry.is_dir():
        raise RecordError(f"the upload names {name[:80]!r}, which is no file inside it; nothing was taken")
    if kind not in (0, stat.S_IFREG):
        raise RecordError(f"the upload holds a link or device, {name[:80]!r}; nothing was taken")


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    target = folder / entry.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    left = entry.file_size
    # zipfile stops at the size that the entry declares, which was counted above; and checks its CRC at the end.
    with archive.open(entry) as source, target.open("xb") as sink:
        while block := source.read(_CHUNK):
            left -= len(block)
            if left < 0:
                raise RecordError(f"the upload's {entry.filename!r} is longer than it says; nothing was taken")
            sink.write(block)
