"""Where derived files lie, and how they are made: whole or not at all, once for each run and format."""

from __future__ import annotations

import re
import shutil
import sqlite3
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_dir

from app.store import Entry, Store
from app.store.errors import StoreError

Build = Callable[[Path], None]
_LOCKS: dict[Path, threading.Lock] = {}
_LOCKS_LOCK = threading.Lock()
_RUN_ID = re.compile(r"run-[0-9a-f]{6,64}\Z")


def derived_root(store: Store) -> Path:
    """Return the folder of all derived files: beside the store's blobs, in the user's cache for a read-only store."""
    blobs = store.database.location.blobs
    if not store.writable:
        return Path(user_cache_dir("hotbench", appauthor=False)) / "derived" / store.database.store_id()
    return blobs.with_name("derived" if blobs.name == "blobs" else f"{blobs.name}-derived")


def derived_file(store: Store, run_id: str, name: str, version: int, build: Build) -> Path:
    """Return the path of a run's derived file, made by `build` if it is missing; other versions of it are removed.

    `run_id` is the id of an entry (made of the run's content, so the file never gets old).
    Raises StoreError where it cannot be written.
    """
    if not _RUN_ID.match(run_id):
        raise StoreError(f"{run_id!r} is no run's id; open a run from the list of runs")
    stem, _, ending = name.partition(".")
    path = derived_root(store) / run_id / f"{stem}-{version}.{ending}"
    with _lock(path):
        if not path.exists():
            _make(path, build)
            _remove_other_versions(path, stem, ending)
    return path


def remove_derived(store: Store, run_id: str) -> None:
    """Remove all derived files of a run."""
    if _RUN_ID.match(run_id):
        shutil.rmtree(derived_root(store) / run_id, ignore_errors=True)


def discard_run(store: Store, entry: Entry) -> bool:
    """Remove a run that nothing was made from, with its derived files; return whether it was removed."""
    removed = store.discard(entry)
    if removed:
        remove_derived(store, entry.id)
    return removed


def _make(path: Path, build: Build) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        build(temporary)
        temporary.replace(path)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"cannot write {path}: {getattr(error, 'strerror', None) or error}; free space or mend the folder's rights"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _remove_other_versions(path: Path, stem: str, ending: str) -> None:
    for other in path.parent.glob(f"{stem}-*.{ending}"):
        if other != path:
            other.unlink(missing_ok=True)


def _lock(path: Path) -> threading.Lock:
    """Return the lock of one file, so that two requests don't do the same work at once."""
    with _LOCKS_LOCK:
        return _LOCKS.setdefault(path, threading.Lock())
