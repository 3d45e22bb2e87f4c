"""Old databases are upgraded with their data; newer ones and others' are refused."""

import sqlite3

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from app.store import StoreError, migrate, open_store, tables
from tests.app.store.processes import save


def make_old(folder):
    """Make a database as the first version left it, with one entry."""
    engine = create_engine(f"sqlite:///{folder / 'hotbench.sqlite'}")
    with engine.begin() as connection:
        migrate.upgrade(connection, "0001")
        connection.exec_driver_sql("INSERT INTO settings VALUES ('store', 'abc')")
        connection.exec_driver_sql(
            "INSERT INTO entries VALUES ('run-old', 'run', NULL, 'm.py:f', '2026-01-01T00:00:00Z', 'd', '{\"a\": 1}')"
        )
    engine.dispose()


def test_an_old_database_is_upgraded_and_keeps_its_data(tmp_path):
    make_old(tmp_path)
    with open_store(str(tmp_path)) as store:
        entry = store.find("run-old")
        assert (entry.name, entry.summary, entry.tags) == ("m.py:f", {"a": 1}, ())
        assert store.tag(entry, ["kept"]).tags == ("kept",)
    with sqlite3.connect(tmp_path / "hotbench.sqlite") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (migrate.HEAD,)


def test_an_upgrade_that_fails_leaves_the_old_form(tmp_path, monkeypatch):
    make_old(tmp_path)

    def fail(connection, revision=migrate.HEAD):
        migrate.upgrade(connection, revision)
        raise StoreError("the power went out")

    monkeypatch.setattr("app.store.database.upgrade", fail)
    with pytest.raises(StoreError, match="power"), open_store(str(tmp_path)):
        pass
    with sqlite3.connect(tmp_path / "hotbench.sqlite") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
        assert not connection.execute("SELECT name FROM sqlite_master WHERE name = 'tags'").fetchall()


def test_a_newer_database_is_refused_and_left_alone(tmp_path):
    with open_store(str(tmp_path)) as store:
        save(store, "run-ab12")
    with sqlite3.connect(tmp_path / "hotbench.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    with (
        pytest.raises(StoreError, match=r"has form 0999, written by a newer Hotbench; .* knows up to 0003: upgrade"),
        open_store(str(tmp_path)),
    ):
        pass
    with sqlite3.connect(tmp_path / "hotbench.sqlite") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0999",)


def test_a_database_of_somebody_else_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "hotbench.sqlite") as connection:
        connection.execute("CREATE TABLE photos (id INTEGER)")
    with pytest.raises(StoreError, match=r"holds other tables \(photos\)"), open_store(str(tmp_path)):
        pass


def test_the_steps_lead_to_the_tables_that_the_code_uses(tmp_path):
    with open_store(str(tmp_path)):
        pass
    engine = create_engine(f"sqlite:///{tmp_path / 'hotbench.sqlite'}")
    found = inspect(engine)
    for name, table in tables.metadata.tables.items():
        columns = {column["name"]: column for column in found.get_columns(name)}
        assert list(columns) == [column.name for column in table.columns]
        assert [columns[column.name]["nullable"] for column in table.columns] == [
            column.nullable for column in table.columns
        ]
        assert [str(columns[column.name]["type"]) for column in table.columns] == [
            str(column.type.compile(engine.dialect)) for column in table.columns
        ]
        keys = {tuple(key["constrained_columns"]): key["referred_table"] for key in found.get_foreign_keys(name)}
        assert keys == {(key.parent.name,): key.column.table.name for key in table.foreign_keys}
    engine.dispose()


def test_the_listed_revisions_are_the_scripts_there_are():
    scripts = ScriptDirectory(str(migrate._SCRIPTS))
    found = [script.revision for script in scripts.walk_revisions()][::-1]
    assert tuple(found) == migrate.REVISIONS
