"""A store that tells which value it is about to save."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from analyzer.record import read_folder
from app.store import Entry, Store


class RecordingStore(Store):
    """The same store; `tell` gets each value's id before its row is written.

    A process that is killed in between leaves the id behind, and so a value that was saved is known as the job's.
    """

    def __init__(self, store: Store, tell: Callable[[str], None]) -> None:
        super().__init__(store.database, store.blobs)
        self._tell = tell

    def adopt(self, staged: Path, kind: str, **about: Any) -> Entry:
        """Tell, then take over."""
        self._tell(read_folder(staged, kind).id)
        return super().adopt(staged, kind, **about)
