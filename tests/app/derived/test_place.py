"""Derived files: whole or not there, once, and only of runs."""

import threading
from types import SimpleNamespace

import pytest

from app.derived.place import derived_file, derived_root, discard_run, remove_derived
from app.store import open_store
from app.store.errors import StoreError

RUN = "run-0123456789ab"


@pytest.fixture
def store(tmp_path):
    with open_store(str(tmp_path / "store")) as opened:
        yield opened


def test_a_file_is_made_once_beside_the_blobs(store, tmp_path):
    made = []

    def build(path):
        made.append(path)
        path.write_text("content")

    first = derived_file(store, RUN, "ops.sqlite", 1, build)
    assert derived_file(store, RUN, "ops.sqlite", 1, build) == first
    assert first.read_text() == "content" and len(made) == 1
    assert first == tmp_path / "store" / "derived" / RUN / "ops-1.sqlite"


def test_a_new_format_replaces_the_old_file(store):
    old = derived_file(store, RUN, "ops.sqlite", 1, lambda path: path.write_text("old"))
    new = derived_file(store, RUN, "ops.sqlite", 2, lambda path: path.write_text("new"))
    assert new.read_text() == "new" and not old.exists()


def test_nothing_half_written_stays(store):
    def build(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left on device; free space"):
        derived_file(store, RUN, "ops.sqlite", 1, build)
    assert list((derived_root(store) / RUN).iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../../etc", "run-..", "run-0123456789ab/..", "experiment-0123456789ab", "run-GG", ""]
)
def test_only_a_runs_id_names_a_folder(store, name):
    with pytest.raises(StoreError, match="is no run's id"):
        derived_file(store, name, "ops.sqlite", 1, lambda path: path.write_text("x"))


def test_two_at_once_make_it_once(store):
    made = []
    inside = threading.Barrier(2)

    def build(path):
        made.append(path)
        path.write_text("x")

    def ask():
        inside.wait()
        derived_file(store, RUN, "ops.sqlite", 1, build)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_removing_takes_all_files_of_a_run(store):
    path = derived_file(store, RUN, "ops.sqlite", 1, lambda path: path.write_text("x"))
    remove_derived(store, RUN)
    assert not path.parent.exists()


def test_a_discarded_run_takes_its_derived_files_along_and_a_held_one_keeps_them(store, monkeypatch):
    path = derived_file(store, RUN, "ops.sqlite", 1, lambda path: path.write_text("x"))
    entry = SimpleNamespace(id=RUN)
    monkeypatch.setattr(type(store), "discard", lambda self, entry: False)
    assert discard_run(store, entry) is False and path.exists()
    monkeypatch.setattr(type(store), "discard", lambda self, entry: True)
    assert discard_run(store, entry) is True and not path.parent.exists()
