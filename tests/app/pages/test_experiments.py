"""The experiments page and the acts on an experiment: keep, undo, export, publish."""

import dataclasses
import json

import pytest

from analyzer.errors import HotbenchError
from analyzer.experiment import experiment_id
from app import workbench
from app.components.experiment_callbacks import act_on
from app.pages import experiments as page
from app.store import keeps
from app.web.access import Forbidden


def texts(tree):
    return json.dumps(tree.to_plotly_json(), default=lambda item: item.to_plotly_json(), ensure_ascii=False)


def save(desk, **changes):
    value = dataclasses.replace(desk.experiment, id="", **changes)
    value = dataclasses.replace(value, id=experiment_id(value))
    workbench._save_experiment(desk.store, value, "another")
    return value


def test_the_list_shows_speedup_and_interval_of_every_experiment(desk):
    save(desk, verdict="inconclusive", reason="inconclusive: within the noise floor")
    shown = texts(page.layout({}))
    assert "2.29×" in shown and "2.25× to 2.33×" in shown
    assert "inconclusive" in shown and shown.count("/experiments?experiment=") == 2


def test_an_experiment_whose_folder_is_gone_is_still_listed(desk):
    entry = desk.store.find(desk.experiment.id, ("experiment",))
    (desk.store.folder(entry) / "experiment.json").unlink()
    page._loaded._values.clear()
    assert page.speedup(desk.store, entry) is None
    assert desk.experiment.id in texts(page.layout({}))


def test_a_list_without_experiments_says_how_one_is_made(desk):
    store = desk.store
    for kind in ("experiment", "candidate"):
        for entry in store.entries(kind):
            store.discard(entry)
    assert "No experiment yet" in texts(page.layout({}))


def test_the_detail_holds_every_section_of_the_report(desk):
    document, _ = workbench.read_document(desk.store, desk.experiment.id)
    shown = texts(page.layout({"experiment": desk.experiment.id}))
    assert all(section.title in shown for section in document.sections)
    assert "2.29× faster" in shown and "within the predicted 1.40× to 2.60×" in shown


def test_the_speedup_and_the_notes_stand_once_on_the_page(desk):
    shown = texts(page.layout({"experiment": desk.experiment.id}))
    assert shown.count("Predicted speedup") == 0 and shown.count("Noise floor") >= 1
    assert shown.count("95 % interval 2.25× to 2.33×") == 1


def test_an_unknown_experiment_in_the_address_is_refused_in_words(desk):
    with pytest.raises(HotbenchError, match="no experiment 'experiment-ff'"):
        page.layout({"experiment": "experiment-ff"})


def test_an_experiment_that_never_ran_is_shown_without_figures(desk):
    never = save(desk, before_seconds=(), after_seconds=(), again_seconds=(), verdict="refused", reason="refused: died")
    shown = texts(page.layout({"experiment": never.id}))
    assert "It did not run" in shown and "experiment-figure" not in shown


def test_keep_and_undo_are_marks_that_can_be_set_again(desk):
    assert act_on(desk.experiment.id, "keep").keep.user == "local"
    assert act_on(desk.experiment.id, "undo").keep is None
    assert act_on(desk.experiment.id, "keep").keep is not None
    assert len(keeps.history(desk.store, desk.run.id)) == 2


def test_export_asks_for_one_job_about_the_experiment(desk):
    state = act_on(desk.experiment.id, "export")
    act_on(desk.experiment.id, "export")
    (job,) = desk.jobs.list()
    assert (job.kind, job.about, dict(job.arguments)) == (
        "export",
        desk.experiment.id,
        {"experiment": desk.experiment.id},
    )
    assert state.export == job


def test_publishing_from_the_experiment_makes_a_report_of_it(desk):
    (report,) = act_on(desk.experiment.id, "publish").reports
    assert report.parent == desk.experiment.id and report.summary["published_by"] == "local"


@pytest.mark.parametrize("act", ["keep", "undo", "export", "publish"])
def test_a_viewer_may_do_none_of_it(desk, as_person, act):
    as_person("vera", "viewer")
    before = desk.store.entries()
    with pytest.raises(Forbidden):
        act_on(desk.experiment.id, act)
    assert desk.store.entries() == before and desk.jobs.list() == ()
    assert keeps.history(desk.store, desk.run.id) == ()


@pytest.mark.parametrize("act", ["keep", "export"])
def test_what_proved_nothing_can_be_neither_kept_nor_exported(desk, act):
    slower = save(desk, verdict="slower", reason="slower: 0.5x")
    with pytest.raises(HotbenchError, match=r"'slower'.*only"):
        act_on(slower.id, act)
    assert desk.jobs.list() == ()


def test_a_comparison_of_two_runs_can_be_published_but_not_kept(desk):
    compared = save(desk, parent=desk.run.id, candidate=desk.experiment.baseline)
    with pytest.raises(HotbenchError, match="compares two runs: there is nothing to keep"):
        act_on(compared.id, "keep")
    assert act_on(compared.id, "publish").reports


def test_an_unknown_act_does_nothing(desk):
    with pytest.raises(HotbenchError):
        act_on(desk.experiment.id, "delete")
