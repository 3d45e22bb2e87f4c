"""The store: save whole values, list them, find them again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import IntegrityError

from analyzer.record import read_folder
from app.store import tables
from app.store.blobs import Blobs
from app.store.database import BUSY_SECONDS, Database
from app.store.entry import Entry
from app.store.errors import StoreError
from app.store.location import locate
from app.store.lookup import choose

Write = Callable[[Path], object]


class Store:
    """Entries in a database, their folders beside it.

    A value is saved folder first, row last: what is listed is whole. What a killed process left is never listed.
    """

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    @property
    def label(self) -> str:
        """Return where the store is, for messages."""
        return self._database.location.label

    @property
    def writable(self) -> bool:
        """Return whether values can be saved."""
        return self._database.writable

    @property
    def database(self) -> Database:
        """Return the database, for the tables that hold no entries: jobs, workers, users, reviews."""
        return self._database

    @property
    def blobs(self) -> Blobs:
        """Return where the values' folders are, for a store that does more when it saves."""
        return self._blobs

    def staging(self) -> AbstractContextManager[Path]:
        """Return a context with an empty folder to save into; `adopt` takes it from there."""
        self._check_writable()
        return self._blobs.staging()

    def save(
        self,
        kind: str,
        write: Write,
        *,
        name: str,
        parent: str | None = None,
        created: str = "",
        summary: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
    ) -> Entry:
        """Save the value that `write` puts into the folder it is given, and return its entry.

        Raises StoreError or RecordError on a full disk, a read-only place, or an unknown parent: nothing is kept then.
        """
        with self.staging() as folder:
            write(folder / "content")
            return self.adopt(
                folder / "content", kind, name=name, parent=parent, created=created, summary=summary, tags=tags
            )

    def adopt(
        self,
        staged: Path,
        kind: str,
        *,
        name: str,
        parent: str | None = None,
        created: str = "",
        summary: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
    ) -> Entry:
        """Take over a saved folder from `staging`, and return its entry. The folder's manifest has kind and id."""
        self._check_writable()
        manifest = read_folder(staged, kind)
        if parent is not None and not self._holds(parent):
            raise StoreError(f"{manifest.id} is made from {parent}, which the store {self.label} does not hold")
        entry = Entry(
            id=manifest.id,
            kind=kind,
            parent=parent,
            name=name,
            created=created or datetime.now(UTC).isoformat(timespec="milliseconds"),
            digest=manifest.digest(),
            summary=dict(summary or {}),
            tags=tuple(sorted(set(tags))),
        )
        self._blobs.adopt(staged, kind, manifest.id)
        self._insert(entry)
        return self.get(entry.id)

    def get(self, id: str) -> Entry:
        """Return the entry with exactly that id. Raises StoreError if there is none."""
        with self._database.reading() as connection:
            row = connection.execute(select(tables.entries).where(tables.entries.c.id == id)).mappings().first()
            labels = connection.execute(select(tables.tags.c.tag).where(tables.tags.c.entry == id)).scalars().all()
        if row is None:
            raise StoreError(f"no entry {id!r} in the store {self.label}")
        return Entry(**dict(row), tags=tuple(sorted(labels)))

    def find(self, text: str, kinds: Iterable[str] = ()) -> Entry:
        """Return the entry of one of `kinds` that `text` names: an id, a unique beginning of one, or "latest".

        Raises StoreError with the ids that exist.
        """
        return choose(self.entries(), text, tuple(kinds), self.label)

    def entries(self, kind: str | None = None) -> tuple[Entry, ...]:
        """Return the entries, newest first; of one kind when it is given."""
        query = select(tables.entries).order_by(tables.entries.c.created.desc(), tables.entries.c.id)
        if kind is not None:
            query = query.where(tables.entries.c.kind == kind)
        with self._database.reading() as connection:
            rows = connection.execute(query).mappings().all()
            labels = connection.execute(select(tables.tags).order_by(tables.tags.c.tag)).all()
        by_entry: dict[str, list[str]] = {}
        for entry, tag in labels:
            by_entry.setdefault(entry, []).append(tag)
        return tuple(Entry(**dict(row), tags=tuple(by_entry.get(row["id"], ()))) for row in rows)

    def folder(self, entry: Entry) -> Path:
        """Return the entry's folder. Raises StoreError if somebody removed it."""
        folder = self._blobs.folder(entry.kind, entry.id)
        if not folder.is_dir():
            raise StoreError(f"the folder of {entry.id} is gone from the store: {folder}; restore it or capture again")
        return folder

    def tag(self, entry: Entry, names: Iterable[str]) -> Entry:
        """Give the entry exactly these tags, and return it as it is now."""
        with self._database.writing() as connection:
            connection.execute(delete(tables.tags).where(tables.tags.c.entry == entry.id))
            _insert_tags(connection, entry.id, names)
        return self.get(entry.id)

    def discard(self, entry: Entry) -> bool:
        """Remove an entry and its folder, unless another entry was made from it; return whether it was removed."""
        children = select(tables.entries.c.id).where(tables.entries.c.parent == entry.id)
        with self._database.writing() as connection:
            if connection.execute(children).first() is not None:
                return False
            connection.execute(delete(tables.entries).where(tables.entries.c.id == entry.id))
        self._blobs.remove(entry.kind, entry.id)
        return True

    def sweep(self, now: float | None = None) -> tuple[Path, ...]:
        """Remove what killed processes left more than an hour ago; return the folders removed.

        Nothing is removed from a folder that another database filled: its rows are not known here.
        """
        if not self.writable or not self._blobs.claim(self._database.store_id()):
            return ()
        return self._blobs.sweep({(entry.kind, entry.id) for entry in self.entries()}, now)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _check_writable(self) -> None:
        if not self.writable:
            raise StoreError(f"the store {self.label} is read-only; give a folder that you may write to with --store")

    def _holds(self, id: str) -> bool:
        with self._database.reading() as connection:
            return connection.execute(select(tables.entries.c.id).where(tables.entries.c.id == id)).scalar() is not None

    def _insert(self, entry: Entry) -> None:
        values = {column.name: getattr(entry, column.name) for column in tables.entries.columns}
        try:
            with self._database.writing() as connection:
                connection.execute(insert(tables.entries).values(values))
                _insert_tags(connection, entry.id, entry.tags)
        except StoreError as error:
            if not isinstance(error.__cause__, IntegrityError):
                raise
            # Another process saved the same value in between: that is as good.
            if not self._holds(entry.id):
                raise


def _insert_tags(connection: Connection, entry: str, names: Iterable[str]) -> None:
    rows = [{"entry": entry, "tag": tag} for tag in sorted(set(names))]
    if rows:
        connection.execute(insert(tables.tags), rows)


@contextmanager
def open_store(place: str | None = None, busy_seconds: float = BUSY_SECONDS) -> Iterator[Store]:
    """Yield the store at `place`, made or upgraded as needed and swept; None: HOTBENCH_STORE or the user's own.

    Raises StoreError in one line when it cannot be opened.
    """
    location = locate(place)
    database = Database(location, busy_seconds)
    try:
        store = Store(database, Blobs(location.blobs))
        store.sweep()
        yield store
    finally:
        database.close()
