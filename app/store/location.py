"""Where a store is: the database's URL and the folder of its blobs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_dir
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.store.errors import StoreError

VARIABLE = "HOTBENCH_STORE"
DATABASE_FILE = "hotbench.sqlite"
BLOBS = "blobs"


@dataclass(frozen=True, slots=True)
class Location:
    """url: of the database. database: its file for SQLite, else None. label: for messages, without a password."""

    url: URL
    blobs: Path
    database: Path | None
    label: str

    @property
    def place(self) -> str:
        """Return the text that `locate` reads as this location. It may hold a password: show `label` instead."""
        return self.url.update_query_dict({BLOBS: str(self.blobs)}).render_as_string(hide_password=False)


def default_place() -> str:
    """Return HOTBENCH_STORE, else the folder `hotbench` in the user's data directory."""
    return os.environ.get(VARIABLE) or user_data_dir("hotbench", appauthor=False)


def locate(place: str | None) -> Location:
    """Return the location that `--store` names: a folder, or a database URL.

    A URL of another database than SQLite says where the blobs go: `postgresql+psycopg://host/name?blobs=/folder`.
    Raises StoreError for a text that is neither.
    """
    text = place or default_place()
    return _from_url(text) if "://" in text else _from_folder(Path(text).expanduser().absolute())


def _from_folder(folder: Path) -> Location:
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"the store {str(folder)!r} is a file; give a folder or a database URL with --store")
    database = folder / DATABASE_FILE
    return Location(URL.create("sqlite", database=str(database)), folder / BLOBS, database, str(database))


def _from_url(text: str) -> Location:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        scheme = text.partition("://")[0]
        raise StoreError(f"the store's URL {scheme}://… cannot be read; write sqlite:///folder/file.sqlite") from None
    blobs = url.query.get("blobs")
    url = url.difference_update_query(["blobs"])
    label = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise StoreError(f"the store's URL {label} names no file; write sqlite:///folder/file.sqlite")
        database = Path(url.database).expanduser().absolute()
        folder = Path(str(blobs)) if blobs else database.parent / f"{database.stem}-{BLOBS}"
        return Location(url.set(database=str(database)), folder.absolute(), database, str(database))
    if not blobs:
        raise StoreError(f"the store's URL {label} does not say where folders go; append ?blobs=/path/to/folder")
    return Location(url, Path(str(blobs)).absolute(), None, label)
