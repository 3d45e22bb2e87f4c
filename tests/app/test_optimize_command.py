"""`hotbench optimize` marks what it proved as kept, as the page's button does."""

import dataclasses
import json

import pytest

from analyzer.experiment import experiment_id
from app import workbench
from app.author import command_line_author
from app.cli import main
from app.store import keeps, open_store
from optimizers.pipeline import Outcome, Proposal
from tests.app.values import report_diagnosis


def answer(monkeypatch, stored, verdict):
    place, run, candidate, experiment = stored
    value = dataclasses.replace(experiment, id="", verdict=verdict, reason=f"{verdict}: so it is")
    value = dataclasses.replace(value, id=experiment_id(value))
    with open_store(place) as store:
        workbench._save_experiment(store, value, "one more")
    outcome = Outcome(Proposal(report_diagnosis(run), (), ()), candidate, value, ())
    monkeypatch.setattr(workbench, "optimize", lambda *_, **__: outcome)
    return value


@pytest.mark.parametrize(("verdict", "code", "kept"), [("faster", 0, True), ("slower", 1, False)])
def test_only_a_proven_candidate_is_kept(monkeypatch, stored, capsys, verdict, code, kept):
    value = answer(monkeypatch, stored, verdict)
    assert main(["optimize", stored[1].id, "--with", "fusion", "--store", stored[0], "--json"]) == code
    assert json.loads(capsys.readouterr().out)["kept"] is kept
    with open_store(stored[0]) as store:
        marks = [(mark.experiment, mark.user) for mark in keeps.kept(store, stored[1].id)]
    assert marks == ([(value.id, command_line_author())] if kept else [])
