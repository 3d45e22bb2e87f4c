"""Bring a database to the form that this version writes."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from app.store.errors import StoreError

REVISIONS = ("0001", "0002", "0003")
HEAD = REVISIONS[-1]
_SCRIPTS = Path(__file__).parent / "migrations"


def revision_of(connection: Connection, label: str) -> str | None:
    """Return the database's revision; None when it is empty.

    Raises StoreError when a newer Hotbench wrote it, or when the tables are not ours.
    """
    names = inspect(connection).get_table_names()
    if "alembic_version" not in names:
        if names:
            raise StoreError(
                f"the database {label} holds other tables ({', '.join(sorted(names)[:3])}); give --store a new one"
            )
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found is not None and found not in REVISIONS:
        raise StoreError(
            f"the database {label} has form {found}, written by a newer Hotbench; this one knows up to {HEAD}: upgrade"
        )
    return found


def upgrade(connection: Connection, revision: str = HEAD) -> None:
    """Run the steps up to `revision` in the connection's transaction: all or none."""
    # Imported here: an up-to-date store, the usual case, opens without Alembic.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
