"""The search for the largest batch that fits: asked for on the page, done as a job, shown on the card."""

import json

import pytest

from analyzer.errors import HotbenchError
from analyzer.run import save_run, with_content_id
from app.components import largest_batch_callbacks as callbacks
from app.components.largest_batch import ROOM, largest_panel, largest_state
from app.jobs.work import KINDS
from app.pages import optimize
from app.views.jobs import command_of, outcome, result_link
from app.web.access import Forbidden
from tests.app.swap import training_run

MEASURED = {"median": 0.25, "low": 0.2, "high": 0.3, "samples": 7, "unit": "s", "method": "m"}
FOUND = {
    "axis": 0,
    "batch": 48,
    "budget_bytes": 3 << 20,
    "unswapped": {"low": 20, "mid": 20, "high": 20, "unit": "items", "basis": "simulated"},
    "traced": [8, 64],
    "peak_bytes_before": 7 << 20,
    "peak_bytes_measured": (3 << 20) - 1000,
    "step_seconds_before": {**MEASURED, "median": 0.125},
    "step_seconds_after": MEASURED,
}


def texts(tree):
    return json.dumps(tree, default=lambda item: item.to_plotly_json(), ensure_ascii=False)


@pytest.fixture(autouse=True)
def swap_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOTBENCH_SWAP", str(tmp_path))


@pytest.fixture
def trained(desk):
    """Return the id of a training run in the desk's store."""
    run = with_content_id(training_run())
    desk.store.save("run", lambda folder: save_run(run, folder), name="training", created=run.created)
    return run.id


def wanted(run, budget="3MiB", axis="0", allow="swap,recompute", folder=""):
    return callbacks.asked(run, budget, axis, allow, folder)


def finished(desk, state="done", result=FOUND, error=""):
    job = desk.jobs.claim_local()
    return desk.jobs.finish(job.id, job.claim, state, result if state == "done" else None, error)


def test_the_card_of_swap_has_its_place_and_the_command_says_the_same(desk, trained):
    assert texts(optimize.layout({"run": trained})).count(f'"{ROOM}"') == 1
    shown = texts(largest_panel(largest_state(None, wanted(trained, axis="1", folder="/a b"))))
    assert f"largest-batch {trained} --budget 3MiB --axis 1 --allow swap,recompute --folder '/a b'" in shown


def test_a_click_asks_for_exactly_what_the_form_says_and_a_second_one_waits(desk, trained):
    callbacks.find(wanted(trained, budget=" 60% ", axis="1"))
    (job,) = desk.jobs.list()
    assert job.kind == callbacks.KIND in KINDS and job.about == trained
    assert job.arguments == {"run": trained, "budget": "60%", "axis": 1, "allow": "swap,recompute", "folder": ""}
    assert command_of(job).endswith(f"largest-batch {trained} --budget 60% --axis 1 --allow swap,recompute")
    with pytest.raises(HotbenchError, match="being searched for already"):
        callbacks.find(wanted(trained))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"budget": "much"}, "'much' is no amount"),
        ({"budget": ""}, "no amount"),
        ({"allow": "hope"}, "swap.allow='hope'"),
    ],
)
def test_what_the_form_gets_wrong_is_told_before_anything_starts(desk, trained, given, words):
    with pytest.raises(HotbenchError, match=words):
        callbacks.find(wanted(trained, **given))
    assert desk.jobs.list() == ()


def test_a_viewer_starts_no_search(desk, trained, monkeypatch):
    def refuse(role):
        raise Forbidden(f"this needs the role {role}")

    monkeypatch.setattr(callbacks, "require", refuse)
    with pytest.raises(Forbidden):
        callbacks.find(wanted(trained))


def test_what_was_found_is_shown_as_measured_and_as_simulated(desk, trained):
    callbacks.find(wanted(trained, budget="40%"))
    finished(desk)
    job = callbacks.newest(trained)
    shown = texts(largest_state(job, wanted(trained)))
    assert "48 items" in shown and "40% = 3.00 MiB" in shown and "7.00 MiB with nothing moved" in shown
    assert "250 ms" in shown and "125 ms with nothing moved" in shown
    assert "20 items" in shown and "simulated" in shown and "measured" in shown
    assert outcome(job) == "48 items fit into 3.00 MiB; 20 with nothing moved"
    assert result_link(job).href == f"/optimize?run={trained}"


def test_a_search_that_found_nothing_says_why(desk, trained):
    callbacks.find(wanted(trained))
    finished(desk, "failed", error="not even a batch of 1 fits: the smallest that works is 5")
    shown = texts(largest_state(callbacks.newest(trained), wanted(trained)))
    assert "Nothing was found" in shown and "not even a batch of 1 fits" in shown


def test_a_search_is_about_its_own_run(desk, trained):
    callbacks.find(wanted(trained))
    assert callbacks.newest(desk.run.id) is None
