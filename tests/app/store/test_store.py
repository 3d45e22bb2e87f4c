"""What the store promises: whole values only, found again by what a person types."""

import os
import time

import pytest

from analyzer.errors import RecordError
from analyzer.record import read_folder, write_folder
from app.store import StoreError, open_store
from tests.app.store.processes import save


@pytest.fixture
def store(tmp_path):
    with open_store(str(tmp_path / "store")) as opened:
        yield opened


def test_an_entry_is_found_with_all_that_was_saved(store):
    save(store, "run-aa01", summary={"step_seconds": 0.5}, tags=["b", "a", "b"], created="2026-01-02T03:04:05+00:00")
    entry = store.find("run-aa01")
    assert (entry.kind, entry.name, entry.parent, entry.tags) == ("run", "m.py:workload", None, ("a", "b"))
    assert entry.summary == {"step_seconds": 0.5}
    assert read_folder(store.folder(entry), "run").digest() == entry.digest


def test_entries_are_listed_newest_first(store):
    save(store, "run-aa01", created="2026-01-02T03:04:05+00:00")
    save(store, "run-aa02", created="2026-01-03T03:04:05+00:00")
    assert [entry.id for entry in store.entries("run")] == ["run-aa02", "run-aa01"]
    assert store.entries("experiment") == ()


@pytest.mark.parametrize("text", ["run-ab", "ab", "run-ab12", "ab12", "latest"])
def test_a_value_is_named_by_its_id_a_unique_beginning_or_latest(store, text):
    save(store, "run-cd34", created="2026-01-02T03:04:05+00:00")
    save(store, "run-ab12", created="2026-01-03T03:04:05+00:00")
    assert store.find(text, ("run",)).id == "run-ab12"


def test_an_unknown_id_says_which_ones_exist(store):
    save(store, "run-ab12")
    with pytest.raises(StoreError, match=r"no run 'ff'; the store holds run-ab12$"):
        store.find("ff", ("run",))


def test_an_empty_store_says_how_to_fill_it(store):
    with pytest.raises(StoreError, match="holds none yet: make one with `hotbench profile"):
        store.find("latest")
    with pytest.raises(StoreError, match="make one with `hotbench optimize"):
        store.find("latest", ("experiment",))
    with pytest.raises(StoreError, match="make one with `hotbench publish"):
        store.find("latest", ("report",))


def test_an_ambiguous_beginning_lists_what_it_may_mean(store):
    save(store, "run-ab12")
    save(store, "run-ab34")
    with pytest.raises(StoreError, match="'ab' is the beginning of 2 ids: .*run-ab.*write more of it"):
        store.find("ab")


def test_an_id_of_another_kind_is_named_as_such(store):
    save(store, "run-ab12")
    with pytest.raises(StoreError, match="run-ab12 is of kind run, not experiment"):
        store.find("run-ab12", ("experiment",))


def test_an_empty_text_names_nothing(store):
    save(store, "run-ab12")
    with pytest.raises(StoreError, match="no entry ''"):
        store.find("")


def test_a_parent_that_the_store_does_not_hold_is_refused_and_nothing_is_kept(store):
    with pytest.raises(StoreError, match="run-ab12 is made from run-none, which the store .* does not hold"):
        save(store, "run-ab12", parent="run-none")
    assert store.entries() == ()
    assert not (store._blobs.root / "run").exists()


def test_a_writer_that_fails_leaves_nothing(store):
    def write(folder):
        folder.mkdir()
        (folder / "data").write_bytes(b"half")
        raise RecordError("cannot save: No space left on device")

    with pytest.raises(RecordError, match="No space left"):
        store.save("run", write, name="m")
    assert store.entries() == ()
    assert [path.name for path in store._blobs.root.iterdir()] == ["store-id"]


def test_a_folder_that_does_not_match_its_manifest_is_not_taken(store):
    def write(folder):
        write_folder(folder, {"data": b"whole"}, "run", "run-ab12")
        (folder / "data").write_bytes(b"other")

    with pytest.raises(RecordError, match="corrupt"):
        store.save("run", write, name="m")
    assert store.entries() == ()


def test_the_same_value_saved_twice_is_one_entry(store):
    def write(folder):
        write_folder(folder, {"data": b"same"}, "run", "run-ab12")

    first, second = (store.save("run", write, name="m") for _ in range(2))
    assert first == second and len(store.entries()) == 1


def test_saving_again_mends_a_damaged_folder(store):
    def write(folder):
        write_folder(folder, {"data": b"same"}, "run", "run-ab12")

    entry = store.save("run", write, name="m")
    (store.folder(entry) / "data").unlink()
    store.save("run", write, name="m")
    assert read_folder(store.folder(entry), "run").digest() == entry.digest


def test_a_removed_folder_is_named(store):
    save(store, "run-ab12")
    entry = store.find("ab12")
    store.folder(entry).rename(store._blobs.root / "elsewhere")
    with pytest.raises(StoreError, match="the folder of run-ab12 is gone"):
        store.folder(entry)


def test_tags_can_be_replaced(store):
    save(store, "run-ab12", tags=["old"])
    assert store.tag(store.find("ab12"), ["new", "best"]).tags == ("best", "new")
    assert store.tag(store.find("ab12"), []).tags == ()


def test_the_sweep_removes_old_leftovers_and_keeps_the_rest(store):
    save(store, "run-ab12")
    root = store._blobs.root
    (root / ".dead.partial").mkdir()
    write_folder(root / "run" / "run-norow", {"data": b"x"}, "run", "run-norow")
    assert store.sweep() == ()
    swept = store.sweep(now=time.time() + 4000)
    assert sorted(path.name for path in swept) == [".dead.partial", "run-norow"]
    assert store.folder(store.find("ab12")).is_dir()


def test_the_sweep_spares_folders_of_another_database(tmp_path):
    with open_store(str(tmp_path)) as store:
        save(store, "run-ab12")
    (tmp_path / "hotbench.sqlite").unlink()
    with open_store(str(tmp_path)) as store:
        assert store.entries() == ()
        assert store.sweep(now=time.time() + 1e6) == ()
    assert (tmp_path / "blobs" / "run" / "run-ab12" / "data").is_file()


def test_opening_sweeps(tmp_path):
    with open_store(str(tmp_path)) as store:
        save(store, "run-ab12")
    leftover = tmp_path / "blobs" / ".dead.partial"
    leftover.mkdir()
    os.utime(leftover, (0, 0))
    with open_store(str(tmp_path)) as store:
        assert not leftover.exists() and len(store.entries()) == 1


def test_a_discarded_entry_is_gone_with_its_folder(store):
    save(store, "run-ab12", tags=["a"])
    entry = store.find("ab12")
    folder = store.folder(entry)
    assert store.discard(entry) is True
    assert store.entries() == () and not folder.exists()


def test_an_entry_that_others_are_made_from_stays(store):
    save(store, "run-ab12")
    save(store, "run-cd34", parent="run-ab12")
    entry = store.find("ab12")
    assert store.discard(entry) is False
    assert store.folder(entry).is_dir() and len(store.entries()) == 2
