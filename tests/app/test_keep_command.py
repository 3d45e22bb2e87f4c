"""`hotbench keep`: a mark that can be ended and set again, its history never erased."""

import dataclasses

import pytest

from analyzer.experiment import experiment_id
from app import workbench
from app.author import command_line_author
from app.store import keeps, open_store
from tests.app.commanding import asked, fails, run


def marks(place, run_id):
    with open_store(place) as store:
        return [(mark.experiment, mark.user, mark.undone_by) for mark in keeps.history(store, run_id)]


def save(place, experiment, **changes):
    value = dataclasses.replace(experiment, id="", **changes)
    value = dataclasses.replace(value, id=experiment_id(value))
    with open_store(place) as store:
        workbench._save_experiment(store, value, "another")
    return value.id


def test_what_is_kept_can_be_undone_and_kept_again(capsys, stored):
    place, captured, _, experiment = stored
    who = command_line_author()
    data = asked(capsys, "keep", experiment.id, "--store", place)
    assert (data["run"], data["experiment"], data["kept"]) == (captured.id, experiment.id, True)
    assert marks(place, captured.id) == [(experiment.id, who, None)]
    assert asked(capsys, "keep", experiment.id, "--undo", "--store", place)["kept"] is False
    assert marks(place, captured.id) == [(experiment.id, who, who)]
    assert run(capsys, "keep", "latest", "--store", place)[0] == 0
    assert marks(place, captured.id) == [(experiment.id, who, None), (experiment.id, who, who)]


def test_keeping_twice_is_one_mark(capsys, stored):
    asked(capsys, "keep", stored[3].id, "--store", stored[0])
    asked(capsys, "keep", stored[3].id, "--store", stored[0])
    assert len(marks(stored[0], stored[1].id)) == 1


def test_a_verdict_that_proves_nothing_says_no(capsys, stored):
    other = save(stored[0], stored[3], verdict="inconclusive", reason="within the noise floor")
    code, out, err = run(capsys, "keep", other, "--store", stored[0])
    assert code == 1 and err == "" and "is not kept: it ended 'inconclusive'" in out
    assert marks(stored[0], stored[1].id) == []


def test_what_is_not_kept_cannot_be_undone(capsys, stored):
    assert "there is nothing to undo" in fails(capsys, "keep", stored[3].id, "--undo", "--store", stored[0])


def test_a_comparison_of_two_runs_has_nothing_to_keep(capsys, stored):
    other = save(stored[0], stored[3], parent=stored[1].id)
    assert "compares two runs" in fails(capsys, "keep", other, "--store", stored[0])


@pytest.mark.parametrize("value", ["experiment-none", "run"])
def test_what_is_no_experiment_is_one_line(capsys, stored, value):
    text = stored[1].id if value == "run" else value
    assert "experiment" in fails(capsys, "keep", text, "--store", stored[0])
