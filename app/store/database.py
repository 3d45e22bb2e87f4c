"""The connection to the database: SQLite's settings, transactions, and the upgrade at opening."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, select
from sqlalchemy.exc import NoSuchModuleError

from app.store import tables
from app.store.errors import StoreError, database_errors
from app.store.location import Location
from app.store.migrate import HEAD, revision_of, upgrade

BUSY_SECONDS = 10.0
_WRITE = "hotbench_write"


class Database:
    """Reading and writing transactions on one database; `writable` is False for a SQLite file on a read-only place."""

    def __init__(self, location: Location, busy_seconds: float = BUSY_SECONDS) -> None:
        self.location = location
        self.writable = True
        if location.database is not None:
            self.writable = _prepare_folder(location.database)
        self._engine = _engine(location, busy_seconds, self.writable)
        try:
            self._open(busy_seconds)
        except BaseException:
            self._engine.dispose()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection whose reads see one state."""
        with database_errors(self.location.label), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection in a transaction that is committed at the end of the block, or undone by an error."""
        if not self.writable:
            raise StoreError(
                f"the store {self.location.label} is read-only; give a folder that you may write to with --store"
            )
        with (
            database_errors(self.location.label),
            self._engine.execution_options(**{_WRITE: True}).begin() as connection,
        ):
            yield connection

    def store_id(self) -> str:
        """Return the random id that this database got when it was made."""
        with self.reading() as connection:
            row = connection.execute(select(tables.settings.c.value).where(tables.settings.c.name == "store")).scalar()
        return str(row or "")

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _open(self, busy_seconds: float) -> None:
        if self.location.database is not None and self.writable:
            with database_errors(self.location.label):
                _use_write_ahead_log(self._engine, busy_seconds)
        with self.reading() as connection:
            revision = revision_of(connection, self.location.label)
        if revision == HEAD:
            return
        if not self.writable:
            raise StoreError(
                f"the store {self.location.label} is read-only and must be upgraded; copy it and open that"
            )
        with self.writing() as connection:
            # Looked up again under the write lock: another process may have been faster.
            if revision_of(connection, self.location.label) != HEAD:
                upgrade(connection)
                if revision is None:
                    connection.execute(insert(tables.settings).values(name="store", value=uuid.uuid4().hex))


def _prepare_folder(database: Path) -> bool:
    """Make the database's folder; return whether it can be written."""
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make the store's folder {str(database.parent)!r}: {error.strerror or error}; "
            "give another place with --store"
        ) from error
    writable = os.access(database.parent, os.W_OK) and (not database.exists() or os.access(database, os.W_OK))
    if not writable and not database.exists():
        raise StoreError(
            f"the folder {str(database.parent)!r} is read-only and holds no store; give another place with --store"
        )
    return writable


def _engine(location: Location, busy_seconds: float, writable: bool) -> Engine:
    if location.database is None:
        return _other_engine(location)
    url = location.url if writable else _read_only_url(location.database)
    engine = create_engine(url, connect_args={"timeout": busy_seconds})

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _record: Any) -> None:
        # The driver's own transactions begin too late for a write lock: ours begin below.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # Locked from the start: a reader that turns writer half-way cannot wait for another writer.
        writes = connection.get_execution_options().get(_WRITE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _other_engine(location: Location) -> Engine:
    try:
        return create_engine(location.url, pool_pre_ping=True)
    except NoSuchModuleError as error:
        raise StoreError(f"no database kind {location.url.drivername!r} is known; use sqlite or postgresql") from error
    except ImportError as error:
        raise StoreError(f"the driver for {location.label} is missing ({error}); install it with pip") from error


def _read_only_url(database: Path) -> URL:
    log = database.with_name(f"{database.name}-wal")
    # Without a log beside it the file is whole, and SQLite need not make one, which it could not here.
    mode = {"mode": "ro"} if log.exists() and log.stat().st_size else {"immutable": "1"}
    return URL.create("sqlite", database=database.as_uri(), query={**mode, "uri": "true"})


def _use_write_ahead_log(engine: Engine, busy_seconds: float) -> None:
    """Let readers go on while one process writes. SQLite's busy timeout does not cover this switch, so wait here."""
    give_up = time.monotonic() + busy_seconds
    connection = engine.raw_connection()
    try:
        while True:
            try:
                if connection.cursor().execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                    connection.cursor().execute("PRAGMA journal_mode=WAL")
                return
            except Exception as error:
                if "locked" not in str(error) or time.monotonic() > give_up:
                    raise
                time.sleep(0.02)
    finally:
        connection.close()
