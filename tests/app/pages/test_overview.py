import dataclasses

import pytest

from analyzer.diagnosis.finding import Diagnosis
from app.components.hot_ops import chosen_op, name_filter
from app.derived.query import read_query
from app.pages import overview
from app.store import keeps
from tests.app.components.tree import addresses, by_id, every, ids, texts
from tests.app.values import HOSTILE, report_diagnosis


@pytest.fixture
def findings(monkeypatch):
    """Give every run the two findings of the values."""
    made = {}

    def diagnosis(store, id):
        return made.setdefault(id, report_diagnosis(overview.loaded_run(store, id)))

    monkeypatch.setattr(overview, "loaded_diagnosis", diagnosis)
    monkeypatch.setattr(overview, "derived", lambda store, id, name, make: make(overview.loaded_run(store, id)))


def page(desk, **query):
    return overview.layout({"run": desk.run.id, **query})


def test_the_key_figures_are_measured_and_what_is_not_measured_says_so(desk):
    shown = texts(page(desk))
    assert "1.90 ms measured" in shown and "not measured" in shown
    assert "Achieved FLOP/s" in shown and "of the measured peak" in shown


def test_a_finding_carries_itself_to_optimize_and_its_gain_is_called_predicted(desk, findings):
    tree = page(desk)
    assert f"/optimize?run={desk.run.id}&finding=dispatch-bound%3A4" in addresses(tree)
    assert "predicted could give back 0.230 ms" in texts(tree)
    assert "No optimizer answers it yet." in texts(tree)


def test_a_page_has_one_primary_act(desk, findings):
    primary = [item for item in every(page(desk)) if "hb-button-primary" in (getattr(item, "className", "") or "")]
    assert [texts(item.children) for item in primary] == ["Fix it in Optimize"]


def test_the_finding_in_the_address_is_marked(desk, findings):
    marked = [
        item.to_plotly_json()["props"]["data-finding"]
        for item in every(page(desk, finding="memory-bound:9"))
        if "hb-marked" in (getattr(item, "className", "") or "")
    ]
    assert marked == ["memory-bound:9"]


def test_without_findings_the_page_says_so(desk, monkeypatch):
    monkeypatch.setattr(overview, "loaded_diagnosis", lambda store, id: Diagnosis("d", id, ()))
    monkeypatch.setattr(overview, "derived", lambda store, id, name, make: make(overview.loaded_run(store, id)))
    assert "No rule sees a hot spot" in texts(page(desk))


def test_what_was_kept_stands_with_its_measured_gain_until_it_is_undone(desk):
    assert "Kept for this run" not in texts(page(desk))
    keeps.keep(desk.store, desk.run.id, desk.experiment.id, "ada")
    shown = texts(page(desk))
    assert "Kept for this run" in shown and "2.29× (2.25× to 2.33×)" in shown and "by ada" in shown
    keeps.undo(desk.store, desk.run.id, desk.experiment.id, "ada")
    assert "Kept for this run" not in texts(page(desk))


def test_a_kept_experiment_says_its_own_step_times_and_that_they_are_of_another_sitting(desk):
    keeps.keep(desk.store, desk.run.id, desk.experiment.id, "ada")
    shown = texts(page(desk))
    assert "in the experiment's own sitting" in shown and " ms before, " in shown


def test_a_run_that_a_worker_captured_names_the_worker(desk, monkeypatch):
    assert "by the worker" not in texts(page(desk))
    entry = overview.run_entry(desk.store, desk.run.id)
    theirs = dataclasses.replace(entry, summary={**entry.summary, "place": "worker-3", "place_name": "gpu-box"})
    monkeypatch.setattr(overview, "run_entry", lambda store, id: theirs)
    shown = texts(page(desk))
    assert "by the worker gpu-box" in shown and "Worker gpu-box" in shown


def test_the_figures_are_named_and_a_table_says_the_same(desk):
    tree = page(desk)
    assert {"hot-ops", "overview-memory", "overview-bytes"} <= ids(tree)
    assert [ids(item) & {"memory-at-peak", "live-bytes"} for item in overview.later_figures(desk.run)] == [
        {"memory-at-peak"},
        {"live-bytes"},
    ]
    links = [address for address in addresses(tree) if address.startswith("/operators")]
    assert len(links) == len(by_id(tree, "overview-run").data["ops"])


def test_a_name_from_a_trace_is_text_and_nothing_else(desk):
    tree = page(desk)
    hostile = HOSTILE.replace("\x1b", "�")
    assert hostile in texts(tree)
    # Plotly reads some tags in its labels: they arrive escaped.
    assert all("<script" not in label for label in by_id(tree, "hot-ops").figure.layout.yaxis.ticktext)
    assert not any(type(item).__name__ == "Markdown" for item in every(tree))


def test_a_chosen_kind_of_op_leads_to_each_of_them_the_slowest_first(desk):
    op = by_id(page(desk), "overview-run").data["ops"][0]
    shown = chosen_op(desk.run.id, op)
    assert texts(shown).startswith(f"{op['name']} {op['count']} calls")
    query = read_query(name_filter(op["name"]))
    assert query.filters["name"]["filter"] == op["name"] and query.sort == (("self_seconds", "desc"),)


def test_a_run_without_a_memory_timeline_has_no_such_figure(desk, monkeypatch):
    run = dataclasses.replace(desk.run, memory=dataclasses.replace(desk.run.memory, timeline=()))
    monkeypatch.setattr(overview, "loaded_run", lambda store, id: run)
    tree = page(desk)
    assert "Live bytes over the step" not in texts(tree)
    # The room for it stays, hidden: the callback that brings the figures always has both outputs.
    assert by_id(tree, "overview-bytes").hidden and overview.later_figures(run)[1] is None


def test_without_a_run_the_page_says_how_to_get_one(desk):
    assert "/runs" in addresses(overview.layout({}))


def test_a_first_capture_that_runs_is_shown_where_its_run_will_stand(desk):
    desk.jobs.submit("profile", {"workload": "/m.py:f"}, title="Capture m.py:f", user="local")
    shown = overview.layout({})
    assert "Capture m.py:f" in texts(shown) and "opens it when it is done" in texts(shown)
    assert "overview-first" in ids(shown)
