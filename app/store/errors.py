"""What can go wrong with a store, in one line each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from analyzer.errors import HotbenchError

# Substrings of SQLite's own messages, and what a user can do about each.
_REMEDIES = (
    ("locked", "is locked by another process", "wait for it or end it, then try again"),
    ("disk is full", "cannot grow: the disk is full", "free space and try again; nothing half-written was kept"),
    ("readonly", "is read-only", "give a folder that you may write to with --store"),
    ("unable to open", "cannot be opened", "check that its folder exists and that you may read and write it"),
    ("not a database", "is corrupt: it is no SQLite file", "restore it from a backup, or move it away to start afresh"),
    ("malformed", "is corrupt", "restore it from a backup, or move it away to start afresh"),
    ("disk i/o error", "cannot be read or written: the disk is full or damaged", "free space or check the disk"),
)


class StoreError(HotbenchError):
    """A store that cannot be opened, read or written, or an id that it does not hold."""


@contextmanager
def database_errors(place: str) -> Iterator[None]:
    """Turn what the database raises inside the block into one StoreError about `place`."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise StoreError(_explain(place, error)) from error


def _explain(place: str, error: Exception) -> str:
    text = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
    for sign, what, remedy in _REMEDIES:
        if sign in text.lower():
            return f"the store's database {place} {what}; {remedy}"
    return f"the store's database {place} refused: {text or type(error).__name__}; check --store and HOTBENCH_STORE"
