"""Where a store is, by what `--store` says."""

import pytest

from app.store import StoreError, open_store
from app.store.location import locate
from tests.app.store.processes import save


def test_a_folder_holds_database_and_blobs(tmp_path):
    location = locate(str(tmp_path))
    assert location.database == tmp_path / "hotbench.sqlite" and location.blobs == tmp_path / "blobs"


def test_the_environment_names_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("HOTBENCH_STORE", str(tmp_path / "mine"))
    assert locate(None).blobs == tmp_path / "mine" / "blobs"
    monkeypatch.delenv("HOTBENCH_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert locate(None).blobs == tmp_path / "data" / "hotbench" / "blobs"


def test_a_sqlite_url_works_like_a_folder(tmp_path):
    with open_store(f"sqlite:///{tmp_path}/my runs.db") as store:
        save(store, "run-ab12")
    assert (tmp_path / "my runs.db").is_file() and (tmp_path / "my runs-blobs" / "run" / "run-ab12").is_dir()


def test_a_relative_folder_with_odd_characters_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_store("50 % off #1?") as store:
        save(store, "run-ab12")
    with open_store("50 % off #1?") as store:
        assert store.find("ab12").id == "run-ab12"
    assert (tmp_path / "50 % off #1?" / "hotbench.sqlite").is_file()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nosuch://host/db?blobs=/tmp/x", "no database kind 'nosuch' is known"),
        ("postgresql://host/db", r"does not say where folders go; append \?blobs="),
        ("sqlite://", "names no file"),
        ("http://[::1/db", "cannot be read"),
    ],
)
def test_a_url_that_cannot_serve_is_refused_in_one_line(place, message):
    with pytest.raises(StoreError, match=message) as caught, open_store(place):
        pass
    assert "\n" not in str(caught.value)


def test_a_missing_driver_is_named(tmp_path):
    with (
        pytest.raises(StoreError, match="the driver for oracle.* is missing"),
        open_store(f"oracle+cx_oracle://u:secret@host/db?blobs={tmp_path}"),
    ):
        pass


def test_a_password_is_never_shown(tmp_path):
    with pytest.raises(StoreError) as caught, open_store("postgresql://user:secret@host/db"):
        pass
    assert "secret" not in str(caught.value)
