"""The folder of blobs: staging, moving into place, and sweeping what killed processes left."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from analyzer.errors import RecordError
from analyzer.record import read_folder
from app.store.errors import StoreError

LEFTOVER_SECONDS = 3600.0
_OWNER = "store-id"


class Blobs:
    """`root/KIND/ID` holds a saved folder; `root/.NAME.partial` is work in progress."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, kind: str, id: str) -> Path:
        """Return where the folder of that value is, or would be."""
        return self.root / kind / id

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield an empty folder on the blobs' own disk; whatever is left in it is removed at the end."""
        folder = self.root / f".{uuid.uuid4().hex}.partial"
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise StoreError(_cannot_write(self.root, error)) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def adopt(self, staged: Path, kind: str, id: str) -> Path:
        """Move a complete staged folder into place and return that. A folder of the same content is left alone."""
        target = self.folder(kind, id)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            while not _rename(staged, target):
                if _is_whole(target, kind):
                    return target
                target.rename(self.root / f".{uuid.uuid4().hex}.partial")
            _sync(target.parent)
            return target
        except OSError as error:
            raise StoreError(_cannot_write(target, error)) from error

    def remove(self, kind: str, id: str) -> None:
        """Remove a folder: moved out of sight first, so that a half-removed one is never found."""
        hidden = self.root / f".{uuid.uuid4().hex}.partial"
        try:
            self.folder(kind, id).rename(hidden)
        except OSError as error:
            raise StoreError(_cannot_write(self.folder(kind, id), error)) from error
        shutil.rmtree(hidden, ignore_errors=True)

    def claim(self, store_id: str) -> bool:
        """Return whether these blobs belong to the database `store_id`; an empty folder comes to belong to it."""
        owner = self.root / _OWNER
        try:
            if owner.exists():
                return owner.read_text(encoding="ascii").strip() == store_id
            self.root.mkdir(parents=True, exist_ok=True)
            if any(path.is_dir() and not path.name.startswith(".") for path in self.root.iterdir()):
                return False
            owner.write_text(f"{store_id}\n", encoding="ascii")
            return True
        except (OSError, ValueError):
            return False

    def sweep(self, known: Set[tuple[str, str]], now: float | None = None) -> tuple[Path, ...]:
        """Remove partial folders, and whole ones without a row, older than an hour; return what was removed."""
        moment = time.time() if now is None else now
        removed = []
        for path in self._leftovers(known):
            if moment - _modified(path, moment) > LEFTOVER_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
                removed.append(path)
        return tuple(removed)

    def _leftovers(self, known: Set[tuple[str, str]]) -> Iterator[Path]:
        if not self.root.is_dir():
            return
        for path in sorted(self.root.iterdir()):
            if path.is_dir() and path.name.endswith(".partial"):
                yield path
            elif path.is_dir() and not path.name.startswith("."):
                yield from (child for child in sorted(path.iterdir()) if (path.name, child.name) not in known)


def _rename(source: Path, target: Path) -> bool:
    """Move `source` to `target`; return False when a folder with content stands there."""
    try:
        source.rename(target)
    except OSError:
        if target.exists():
            return False
        raise
    return True


def _is_whole(folder: Path, kind: str) -> bool:
    try:
        read_folder(folder, kind)
    except RecordError:
        return False
    return True


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _modified(path: Path, otherwise: float) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return otherwise


def _cannot_write(place: Path, error: OSError) -> str:
    return f"cannot write to the store's folder {place}: {error.strerror or error}; free space or give another --store"
