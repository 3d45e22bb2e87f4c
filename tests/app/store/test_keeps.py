"""Marks: what is kept for a run, by whom, and that nothing of it is erased."""

import dataclasses
import threading

import pytest

from analyzer.experiment import experiment_id
from app import workbench
from app.store import StoreError, keeps, open_store


@pytest.fixture
def store(stored):
    with open_store(stored[0]) as opened:
        yield opened


@pytest.fixture
def pair(stored):
    return stored[1].id, stored[3].id


def test_a_kept_experiment_is_in_effect_until_it_is_undone(store, pair):
    keeps.keep(store, *pair, "ada")
    assert [mark.user for mark in keeps.kept(store, pair[0])] == ["ada"]
    assert keeps.all_kept(store) == {pair[1]}
    assert keeps.undo(store, *pair, "bob") is True
    assert keeps.kept(store, pair[0]) == () and keeps.all_kept(store) == frozenset()


def test_what_was_undone_stays_with_who_did_it_and_redo_is_a_new_mark(store, pair):
    first = keeps.keep(store, *pair, "ada")
    keeps.undo(store, *pair, "bob")
    second = keeps.keep(store, *pair, "cleo")
    marks = keeps.history(store, pair[0])
    assert [mark.id for mark in marks] == [second.id, first.id]
    assert marks[1].undone is not None and marks[1].undone_by == "bob" and marks[0].undone is None


def test_keeping_twice_changes_nothing(store, pair):
    assert keeps.keep(store, *pair, "ada") == keeps.keep(store, *pair, "bob")
    assert len(keeps.history(store, pair[0])) == 1


def test_two_clicks_at_once_make_one_mark(stored, pair):
    def click():
        with open_store(stored[0]) as store:
            keeps.keep(store, *pair, "ada")

    threads = [threading.Thread(target=click) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open_store(stored[0]) as store:
        assert len(keeps.history(store, pair[0])) == 1


def test_undoing_nothing_says_so(store, pair):
    assert keeps.undo(store, *pair, "bob") is False


@pytest.mark.parametrize("verdict", ["slower", "inconclusive", "refused"])
def test_only_a_proven_experiment_can_be_kept(stored, store, verdict):
    value = dataclasses.replace(stored[3], id="", verdict=verdict, reason=f"{verdict}: so")
    value = dataclasses.replace(value, id=experiment_id(value))
    workbench._save_experiment(store, value, "another")
    with pytest.raises(StoreError, match=f"ended '{verdict}': only what is proven"):
        keeps.keep(store, stored[1].id, value.id, "ada")


def test_an_experiment_is_kept_for_its_own_run_only(stored, store):
    with pytest.raises(StoreError, match="is about run-.*, not about run-other"):
        keeps.keep(store, "run-other", stored[3].id, "ada")


def test_a_comparison_of_two_runs_cannot_be_kept(stored, store):
    value = dataclasses.replace(stored[3], id="", parent=stored[1].id)
    value = dataclasses.replace(value, id=experiment_id(value))
    workbench._save_experiment(store, value, "a against b")
    with pytest.raises(StoreError, match="is about two runs"):
        keeps.keep(store, stored[1].id, value.id, "ada")


def test_a_verdict_that_the_entry_does_not_tell_is_read_from_the_folder(stored, store):
    entry = store.get(stored[3].id)
    assert "verdict" not in entry.summary and keeps.verdict_of(store, entry) == "faster"
