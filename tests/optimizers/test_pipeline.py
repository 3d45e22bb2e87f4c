"""The loop's own logic, with optimizers and an experiment made for the test; the real ones run in test_spine.py."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from analyzer.errors import HotbenchError
from analyzer.measurement import Estimate
from analyzer.workload import load_workload
from optimizers import pipeline, registry
from optimizers.candidate import load_candidate
from optimizers.pipeline import apply_plans, optimize_summary, propose
from optimizers.plan import Applied, Options, Plan, Refusal
from tests.optimizers.test_candidate import SOURCE
from tests.synthetic import Call, make_run


@dataclass(frozen=True)
class NoteOptions(Options):
    text: str = "plain"


class Note:
    """Leaves a note on the model; refuses when told to."""

    options: ClassVar[type[Options]] = NoteOptions

    def __init__(self, name, refuse_plan=False, refuse_apply=False):
        self.name = name
        self.refuse_plan = refuse_plan
        self.refuse_apply = refuse_apply

    def plan(self, run, diagnosis, options):
        if self.refuse_plan:
            return Refusal(self.name, "nothing to do")
        estimate = Estimate(1.0, 1.5, 2.0, "x", "test")
        return Plan("plan-1", run.id, self.name, {"text": options.text}, (), estimate, "a note")

    def apply(self, workload, plan, progress=None):
        if self.refuse_apply:
            return Refusal(self.name, "not faster")
        workload.model.notes = [*getattr(workload.model, "notes", []), self.name]
        return workload, Applied(plan, {"text": plan.options["text"]})


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(SOURCE)
    reference = load_workload(f"{path}:workload")[1]
    return dataclasses.replace(make_run([Call("aten::mul", 1e-6)]), workload=reference)


def install(monkeypatch, *optimizers):
    monkeypatch.setattr(registry, "OPTIMIZERS", optimizers)


def test_a_proposal_changes_nothing_and_keeps_refusals(monkeypatch, run):
    install(monkeypatch, Note("fusion"), Note("swap", refuse_plan=True))
    proposal = propose(run, ["swap", "fusion"], {"fusion.text": "hello"})
    assert [plan.optimizer for plan in proposal.plans] == ["fusion"]
    assert proposal.plans[0].options == {"text": "hello"}
    assert proposal.refusals == (Refusal("swap", "nothing to do"),)


def test_several_apply_in_their_order_with_a_capture_between(monkeypatch, run):
    install(monkeypatch, Note("swap"), Note("fusion"))
    captured = []

    def fake_capture(workload, reference, **_):
        captured.append(list(workload.model.notes))
        return dataclasses.replace(run, id="run-between")

    monkeypatch.setattr(pipeline, "capture", fake_capture)
    outcome = apply_plans(run, ["swap", "fusion"], {})
    assert outcome.candidate is not None
    assert [(item.plan.optimizer, item.plan.parent) for item in outcome.candidate.applied] == [
        ("fusion", run.id),
        ("swap", "run-between"),
    ]
    assert captured == [["fusion"]]


def test_refusals_of_all_leave_no_candidate_and_no_folder(monkeypatch, run, tmp_path):
    install(monkeypatch, Note("fusion", refuse_apply=True))
    outcome = pipeline.optimize(run, ["fusion"], {}, tmp_path / "candidate")
    assert outcome.candidate is None and not outcome.kept
    summary = optimize_summary(outcome)
    assert summary["verdict"] == "refused" and "not faster" in summary["reason"] and summary["kept"] is False
    assert not (tmp_path / "candidate").exists()


def test_a_candidate_is_saved_before_it_is_proven(monkeypatch, run, tmp_path):
    install(monkeypatch, Note("fusion"))
    seen = {}

    def fake_experiment(baseline, candidate, **options):
        seen.update(options, saved=load_candidate(tmp_path / "candidate"), launch=candidate, baseline=baseline)
        raise HotbenchError("stop here")

    monkeypatch.setattr(pipeline, "run_experiment", fake_experiment)
    with pytest.raises(HotbenchError, match="stop here"):
        pipeline.optimize(run, ["fusion"], {}, tmp_path / "candidate", max_error=1e-3)
    assert seen["max_error"] == 1e-3
    assert seen["parent"] == seen["saved"].id
    assert seen["baseline"].argument["path"] == run.workload.path
    assert seen["launch"].threads == run.threads


def test_unknown_names_and_none_at_all_are_one_line(monkeypatch, run):
    install(monkeypatch, Note("fusion"))
    with pytest.raises(HotbenchError, match="no optimizer 'magic'; known: fusion"):
        propose(run, ["magic"], {})
    with pytest.raises(HotbenchError, match="no optimizer named"):
        propose(run, [], {})


def test_optimizers_run_with_the_threads_of_the_run(monkeypatch, run):
    seen = []

    class Watching(Note):
        def apply(self, workload, plan, progress=None):
            seen.append(torch.get_num_threads())
            return super().apply(workload, plan, progress)

    install(monkeypatch, Watching("fusion"))
    before = torch.get_num_threads()
    for threads in (1, 2):
        apply_plans(dataclasses.replace(run, threads=threads), ["fusion"], {})
    assert seen == [1, 2] and torch.get_num_threads() == before
