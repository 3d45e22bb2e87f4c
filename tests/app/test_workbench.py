"""What the workbench saves, and what it leaves out: only what was measured is kept."""

import dataclasses

import pytest

from analyzer.errors import HotbenchError
from analyzer.experiment import experiment_id
from app import workbench
from app.store import open_store
from optimizers import pipeline
from optimizers.candidate import make_candidate
from optimizers.pipeline import Outcome, Proposal
from optimizers.plan import Refusal
from tests.app.values import report_diagnosis, report_experiment


@pytest.fixture
def store(stored):
    with open_store(stored[0]) as opened:
        yield opened


def fake(monkeypatch, stored, *, experiment=None, refusals=()):
    """Let the pipeline answer with a new candidate (or refusals), and with `experiment` or the error that it is."""
    _, run, candidate, _ = stored
    made = make_candidate(run.id, run.workload, candidate.applied, ("another",))
    made = dataclasses.replace(made, id="candidate-00000000beef")

    def apply_plans(_run, _names, _settings, _progress):
        return Outcome(Proposal(report_diagnosis(run), (), ()), None if refusals else made, None, refusals)

    def prove(_run, _candidate, folder, _max_error, _progress):
        assert (folder / "manifest.json").is_file()
        if isinstance(experiment, BaseException):
            raise experiment
        return experiment

    monkeypatch.setattr(pipeline, "apply_plans", apply_plans)
    monkeypatch.setattr(pipeline, "prove", prove)
    return made


def test_an_optimized_run_gets_a_candidate_and_an_experiment(monkeypatch, stored, store):
    made = fake(monkeypatch, stored)
    experiment = report_experiment(stored[1], made)
    experiment = dataclasses.replace(experiment, id=experiment_id(experiment))
    fake(monkeypatch, stored, experiment=experiment)
    outcome = workbench.optimize(store, stored[1].id, ["fusion"], {})
    assert outcome.experiment == experiment and outcome.kept
    proof = workbench.read_proof(store, experiment.id)
    assert (proof.candidate.id, proof.run.id, proof.experiment) == (made.id, stored[1].id, experiment)


@pytest.mark.parametrize("error", [HotbenchError("the variant died"), KeyboardInterrupt()])
def test_a_candidate_that_was_never_measured_is_not_kept(monkeypatch, stored, store, error):
    made = fake(monkeypatch, stored, experiment=error)
    before = store.entries()
    with pytest.raises(type(error)):
        workbench.optimize(store, stored[1].id, ["fusion"], {})
    assert store.entries() == before and made.id not in {entry.id for entry in store.entries()}


def test_refusals_of_all_leave_the_store_as_it_was(monkeypatch, stored, store):
    fake(monkeypatch, stored, refusals=(Refusal("fusion", "nothing to do"),))
    before = store.entries()
    outcome = workbench.optimize(store, stored[1].id, ["fusion"], {})
    assert outcome.refusals[0].reason == "nothing to do"
    assert store.entries() == before


def test_a_comparison_has_nothing_to_export(monkeypatch, stored, store, tmp_path):
    _, run, candidate, _ = stored
    drawn = report_experiment(run, candidate)
    experiment = dataclasses.replace(drawn, parent=run.id, candidate=drawn.baseline)
    experiment = dataclasses.replace(experiment, id=experiment_id(experiment))
    workbench._save_experiment(store, experiment, "a against b")
    with pytest.raises(HotbenchError, match="compares two runs: it has no candidate to export"):
        workbench.export(store, experiment.id, tmp_path / "artifact")
    path = workbench.report(store, experiment.id, tmp_path / "r.md")
    assert path.read_text(encoding="utf-8").startswith("# model.py:workload against model.py:workload")
