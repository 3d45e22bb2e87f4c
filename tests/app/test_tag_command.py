"""`hotbench tag` and `hotbench remove`: labels of runs, and the end of those that nothing was made from."""

import dataclasses

import pytest

from analyzer.run import save_run, with_content_id
from app.store import open_store
from tests.app.commanding import asked, fails, run


@pytest.fixture
def other(stored):
    """Return the id of one more run, that nothing was made from."""
    value = with_content_id(dataclasses.replace(stored[1], name="other.py:workload"))
    with open_store(stored[0]) as store:
        return store.save("run", lambda folder: save_run(value, folder), name=value.name).id


def runs(place):
    with open_store(place) as store:
        return {entry.id for entry in store.entries("run")}


def test_tags_are_added_to_those_there_are_and_taken_away(capsys, stored):
    place, id = stored[0], stored[1].id
    assert asked(capsys, "tag", id, "baseline", " a   b ", "--store", place)["tags"] == ["a b", "baseline"]
    assert asked(capsys, "tag", id, "nightly", "--store", place)["tags"] == ["a b", "baseline", "nightly"]
    assert asked(capsys, "tag", id, "nightly", "a b", "--remove", "--store", place)["tags"] == ["baseline"]
    assert run(capsys, "tag", id, "baseline", "--remove", "--store", place)[1] == f"{id} has the tags: none\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x" * 41,), "is too long; keep it within 40 characters"),
        (tuple(str(number) for number in range(21)), "21 tags are too many"),
        (("nightly", "--remove"), "has no tag 'nightly'; it has: none"),
        (("  ",), "an empty text is no tag"),
        ((), "the following arguments are required: TAG"),
    ],
)
def test_tags_that_cannot_be_are_one_line(capsys, stored, arguments, message):
    assert message in fails(capsys, "tag", stored[1].id, *arguments, "--store", stored[0])


def test_the_most_tags_hold_for_old_and_new_together(capsys, stored):
    place, id = stored[0], stored[1].id
    asked(capsys, "tag", id, *map(str, range(20)), "--store", place)
    assert "21 tags are too many" in fails(capsys, "tag", id, "one more", "--store", place)


def test_a_removed_run_is_gone_and_told_of(capsys, stored, other):
    data = asked(capsys, "remove", other[:10], "--store", stored[0])
    assert [(item["id"], item["name"]) for item in data["removed"]] == [(other, "other.py:workload")]
    assert runs(stored[0]) == {stored[1].id}


def test_a_run_that_something_was_made_from_stays_and_so_do_the_others(capsys, stored, other):
    message = fails(capsys, "remove", other, stored[1].id, "--store", stored[0])
    assert f"{stored[1].id} stays: {stored[2].id} was made from it; nothing was removed" in message
    assert runs(stored[0]) == {stored[1].id, other}


def test_a_run_to_remove_is_named_by_its_id(capsys, stored):
    assert "'latest' may be another run by now" in fails(capsys, "remove", "latest", "--store", stored[0])


def test_an_experiment_is_not_removed(capsys, stored):
    assert "is of kind experiment, not run" in fails(capsys, "remove", stored[3].id, "--store", stored[0])
