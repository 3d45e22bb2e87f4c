"""Entries whose folder is proven to be what was saved: what is handed out or approved goes through here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analyzer.errors import RecordError
from analyzer.record import Manifest, read_folder
from app.store.entry import Entry
from app.store.errors import StoreError
from app.store.store import Store


@dataclass(frozen=True, slots=True)
class Verified:
    """An entry, its folder and its manifest; every file had its hash when this was made."""

    entry: Entry
    folder: Path
    manifest: Manifest


def entry_of_kind(store: Store, kind: str, id: str) -> Entry:
    """Return the entry with exactly that id. Raises StoreError, without naming where the store is."""
    for entry in store.entries(kind):
        if entry.id == id:
            return entry
    raise StoreError(f"no {kind} {id[:80]!r} in this store; its page lists those there are")


def verified(store: Store, kind: str, id: str) -> Verified:
    """Return the entry after reading every file of its folder.

    Raises StoreError where there is none, RecordError where its folder is gone or not as it was saved.
    """
    entry = entry_of_kind(store, kind, id)
    try:
        folder = store.folder(entry)
        manifest = read_folder(folder, kind)
    except StoreError as error:
        raise RecordError(f"the files of {entry.id} are gone from the store; make the {kind} again") from error
    except RecordError as error:
        # A path on the server is of no use to whoever reads this in a browser.
        raise RecordError(str(error).replace(str(store.folder(entry)), entry.id)) from error
    if manifest.digest() != entry.digest:
        raise RecordError(f"{entry.id} is not what was saved: its manifest differs; make the {kind} again")
    return Verified(entry, folder, manifest)
