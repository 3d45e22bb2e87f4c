import dataclasses
from urllib.parse import parse_qs, urlsplit

import pytest

from analyzer.diagnosis.finding import Diagnosis
from app.derived.query import read_query
from app.pages import overview
from app.store import keeps
from app.units import mebibytes, printable
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


def test_each_hot_op_leads_to_its_ops_with_the_slowest_selected(desk):
    table = by_id(page(desk), "hot-ops")
    links = [address for address in addresses(table) if address.startswith("/operators")]
    names = {op.name for op in desk.run.graph.ops if op.self_seconds is not None}
    assert len(links) == min(len(names), 10)
    asked = parse_qs(urlsplit(links[0]).query)
    query = read_query(asked["filter"][0])
    name = query.filters["name"]["filter"]
    assert query.sort == (("self_seconds", "desc"),)
    timed = [op for op in desk.run.graph.ops if op.name == name and op.self_seconds is not None]
    assert int(asked["op"][0]) == max(timed, key=lambda op: op.self_seconds.median).index
    assert printable(name) in texts(table)


def test_memory_at_the_peak_is_bars_and_live_bytes_a_named_figure(desk):
    tree = page(desk)
    assert "overview-bytes" in ids(tree) and "live-bytes" in ids(overview.live_bytes_figure(desk.run))
    held = {name: count for name, count in desk.run.memory.at_peak.items() if count}
    assert held
    for name, count in held.items():
        assert f"{name.replace('_', ' ')}" in texts(tree) and mebibytes(count) in texts(tree)


def test_a_name_from_a_trace_is_text_and_nothing_else(desk):
    tree = page(desk)
    hostile = HOSTILE.replace("\x1b", "�")
    assert hostile in texts(tree)
    assert not any(type(item).__name__ == "Markdown" for item in every(tree))


def test_a_run_without_a_memory_timeline_has_no_such_figure(desk, monkeypatch):
    run = dataclasses.replace(desk.run, memory=dataclasses.replace(desk.run.memory, timeline=()))
    monkeypatch.setattr(overview, "loaded_run", lambda store, id: run)
    tree = page(desk)
    assert "Live bytes over the step" not in texts(tree)
    assert "overview-bytes" not in ids(tree)


def test_without_a_run_the_page_says_how_to_get_one(desk):
    assert "/runs" in addresses(overview.layout({}))


def test_a_first_capture_that_runs_is_shown_where_its_run_will_stand(desk):
    desk.jobs.submit("profile", {"workload": "/m.py:f"}, title="Capture m.py:f", user="local")
    shown = overview.layout({})
    assert "Capture m.py:f" in texts(shown) and "opens it when it is done" in texts(shown)
    assert "overview-first" in ids(shown)
