"""The key that signs the login cookies: random, made once, readable by the server's owner alone."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from sqlalchemy import insert, select

from app.store import Store, tables
from app.store.errors import StoreError

_NAME = "secret_key"


def secret_key(store: Store) -> str:
    """Return the store's key: a file of mode 0600 beside a SQLite database, else a row of the settings.

    A read-only store has a key for this process alone: its logins end with the server.
    """
    if not store.writable:
        return secrets.token_hex(32)
    database = store.database.location.database
    return _from_settings(store) if database is None else _from_file(database.with_suffix(".key"))


def _from_file(path: Path) -> str:
    if path.exists():
        return _read(path)
    key = secrets.token_hex(32)
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".key-", encoding="ascii") as stream:
            stream.write(key)
            stream.flush()
            # A link appears whole or not at all, and never replaces another process's key.
            os.link(stream.name, path)
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise StoreError(f"cannot make the key file {str(path)!r}: {error.strerror or error}") from error
    return key


def _read(path: Path) -> str:
    try:
        key = path.read_text(encoding="ascii").strip()
        path.chmod(0o600)
    except (OSError, UnicodeError) as error:
        raise StoreError(f"cannot read the key file {str(path)!r}: {error}; remove it to end all logins") from error
    if len(key) < 32:
        raise StoreError(f"the key file {str(path)!r} is damaged; remove it: all logins end then")
    return key


def _from_settings(store: Store) -> str:
    query = select(tables.settings.c.value).where(tables.settings.c.name == _NAME)
    with store.database.writing() as connection:
        key = connection.execute(query).scalar()
        if key is None:
            key = secrets.token_hex(32)
            connection.execute(insert(tables.settings).values(name=_NAME, value=key))
    return str(key)
