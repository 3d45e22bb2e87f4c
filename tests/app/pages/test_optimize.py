"""The Optimize page: what is derived from the store, the button, and who may press it."""

import dataclasses
import json

import pytest

from analyzer.errors import HotbenchError, WorkloadError
from analyzer.experiment import experiment_id
from app import workbench
from app.components import optimize_state as state
from app.components.options_form import Form
from app.jobs.job import Note
from app.pages import optimize as page
from app.store import keeps
from app.views.optimize import of_names, signature
from app.web.access import Forbidden
from optimizers import pipeline, registry
from optimizers.registry import OPTIMIZERS

FUSION = Form("fusion", {})


def texts(tree):
    return json.dumps(tree.to_plotly_json(), default=lambda item: item.to_plotly_json(), ensure_ascii=False)


def ended(desk, result=None, error=""):
    state.apply(desk.run.id, FUSION)
    job = desk.jobs.claim("local", lambda needs: True)
    if result is not None:
        return desk.jobs.finish(job.id, job.claim, "done", result)
    return desk.jobs.finish(job.id, job.claim, "failed", error=error)


def own(desk):
    return of_names(state.attempts_of(desk.run.id), ["fusion"])


def test_every_optimizer_that_there_is_has_a_card(desk):
    shown = texts(page.layout({"run": desk.run.id}))
    assert all(f"optimizer-{optimizer.name}" in shown for optimizer in OPTIMIZERS)


def test_an_experiment_made_from_the_command_line_is_shown_too(desk):
    shown = texts(page.layout({"run": desk.run.id}))
    assert "2.29× faster" in shown and desk.experiment.id in shown


def test_the_plan_is_what_the_optimizer_proposes_and_is_computed_once(desk, monkeypatch):
    view, findings = state.planned(desk.run.id, FUSION)
    assert view.estimate is not None and view.estimate.unit == "x" and view.taken
    assert all(item["run"] == desk.run.id for item in findings)
    monkeypatch.setattr(pipeline, "propose", lambda *_: pytest.fail("asked for again"))
    assert state.planned(desk.run.id, FUSION)[0] == view


def test_apply_asks_for_exactly_what_the_form_says(desk):
    state.apply(desk.run.id, Form("fusion", {"fusion.min_gain": "0.1"}, "1e-4"))
    (job,) = desk.jobs.list()
    assert job.kind == "optimize" and job.about == desk.run.id and job.needs == {"place": "local"}
    wanted = {"run": desk.run.id, "optimizers": ["fusion"], "settings": {"fusion.min_gain": "0.1"}, "max_error": 1e-4}
    assert job.arguments == wanted


def test_a_second_click_while_it_runs_is_refused_in_words(desk):
    state.apply(desk.run.id, FUSION)
    with pytest.raises(HotbenchError, match="being applied to this run already"):
        state.apply(desk.run.id, FUSION)
    assert len(desk.jobs.list()) == 1


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (Form("fusion", {"fusion.min_gain": "abc"}), "write a number"),
        (Form("fusion", {"fusion.min_gain": "2"}), "asks for more than all of the time"),
        (Form("fusion", {}, "-1"), "'-1' is no relative error"),
    ],
)
def test_wrong_options_start_nothing(desk, form, words):
    with pytest.raises(HotbenchError, match=words):
        state.apply(desk.run.id, form)
    assert desk.jobs.list() == ()


def test_a_viewer_starts_nothing(desk, as_person):
    as_person("vera", "viewer")
    with pytest.raises(Forbidden, match="vera is a viewer"):
        state.apply(desk.run.id, FUSION)
    assert desk.jobs.list() == ()


def test_a_run_that_no_place_can_work_on_is_refused_in_words(desk, monkeypatch):
    def nowhere(run):
        raise WorkloadError("no worker offers model.py:workload; start one")

    monkeypatch.setattr(state, "needs_of_run", nowhere)
    with pytest.raises(WorkloadError, match="start one"):
        state.apply(desk.run.id, FUSION)
    assert desk.jobs.list() == ()


def test_a_live_job_is_shown_as_progress_after_a_reload(desk):
    state.apply(desk.run.id, FUSION)
    job = desk.jobs.claim("local", lambda needs: True)
    desk.jobs.report(job.id, job.claim, [Note("progress", "time kernels", 0.4)])
    shown = texts(page.layout({"run": desk.run.id}))
    assert "time kernels" in shown and '"job": "' + job.id in shown


def test_a_refusal_says_why_and_that_nothing_was_changed(desk):
    ended(desk, {"verdict": "refused", "reason": "fusion: eager is as fast", "experiment": None, "kept": False})
    shown = texts(page.layout({"run": desk.run.id}))
    assert "Refused: nothing was changed" in shown and "fusion: eager is as fast" in shown


def test_a_failed_job_says_why_and_the_earlier_proof_stays(desk):
    ended(desk, error="the process was killed by signal 9")
    shown = texts(page.layout({"run": desk.run.id}))
    assert "killed by signal 9" in shown and "2.29× faster" in shown


def test_the_signature_changes_with_a_jobs_state(desk):
    before = signature(own(desk))
    state.apply(desk.run.id, FUSION)
    queued = signature(own(desk))
    desk.jobs.cancel(desk.jobs.list()[0].id, "bob")
    assert len({before, queued, signature(own(desk))}) == 3


def test_the_experiment_of_a_job_is_not_listed_twice(desk):
    ended(desk, {"verdict": "faster", "experiment": desk.experiment.id, "kept": True})
    (attempt,) = own(desk)
    assert attempt.job is not None and attempt.experiment.id == desk.experiment.id


def test_a_kept_experiment_offers_undo_and_an_undone_one_says_who_did_it(desk):
    keeps.keep(desk.store, desk.run.id, desk.experiment.id, "ada")
    assert '"act": "undo"' in texts(page.layout({"run": desk.run.id}))
    keeps.undo(desk.store, desk.run.id, desk.experiment.id, "bob")
    shown = texts(page.layout({"run": desk.run.id}))
    assert '"act": "keep"' in shown and "bob undid it" in shown


def test_an_experiment_that_proved_nothing_can_be_neither_kept_nor_exported(desk):
    slower = dataclasses.replace(
        desk.experiment, id="", verdict="slower", reason="slower: 0.5x", created="2027-01-02T03:05:06+00:00"
    )
    slower = dataclasses.replace(slower, id=experiment_id(slower))
    workbench._save_experiment(desk.store, slower, "slow")
    shown = texts(page.layout({"run": desk.run.id}))
    assert "it made the step slower" in shown
    assert '"act": "keep"' not in shown and '"act": "export"' not in shown


def test_the_card_that_answers_the_finding_in_the_address_is_marked(desk):
    finding = next(item for item in page.loaded_diagnosis(desk.store, desk.run.id).findings if item.optimizer)
    shown = texts(page.layout({"run": desk.run.id, "finding": finding.id}))
    assert "You came from this finding" in shown and "hb-highlight" in shown
    assert "hb-highlight" not in texts(page.layout({"run": desk.run.id}))


def test_without_a_run_the_page_says_what_to_do(desk):
    assert "Capture a workload first" in texts(page.layout({}))


def test_one_optimizer_alone_offers_no_choice_of_several(desk, monkeypatch):
    monkeypatch.setattr(registry, "OPTIMIZERS", OPTIMIZERS[:1])
    assert "together-names" not in texts(page.layout({"run": desk.run.id}))


def test_several_optimizers_can_be_chosen_together(desk):
    state.apply(desk.run.id, Form("swap", {}, "1e-4"), Form("fusion", {"fusion.min_gain": "0.1"}, "1e-3"))
    (job,) = desk.jobs.list()
    assert job.arguments["optimizers"] == ["fusion", "swap"] and job.arguments["max_error"] == 1e-4
    assert job.arguments["settings"] == {"fusion.min_gain": "0.1"}
    everything = state.attempts_of(desk.run.id)
    assert [attempt.job for attempt in state.of_card(everything, state.TOGETHER)] == [job]
    assert job not in [attempt.job for attempt in state.of_card(everything, "fusion")]
    assert "together-names" in texts(page.layout({"run": desk.run.id}))


def test_choosing_none_together_is_refused_in_words(desk):
    with pytest.raises(HotbenchError, match="no optimizer is chosen"):
        state.apply(desk.run.id)
