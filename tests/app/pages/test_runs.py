import dataclasses

import pytest

from analyzer.errors import HotbenchError
from analyzer.run import save_run, with_content_id
from app.components import new_run, run_acts
from app.pages import compare, runs
from app.views.runs import RunFilter, filter_text
from app.web import access
from app.web import context as contexts
from app.web.access import Forbidden, Person
from app.web.context import ServerSettings
from tests.app.components.tree import addresses, by_id, ids, texts

WORKLOAD = "from analyzer.workload import Workload\ndef tiny() -> Workload:\n    return Workload()\n"


@pytest.fixture
def viewer(monkeypatch):
    for module in (access, runs):
        monkeypatch.setattr(module, "person", lambda: Person("vera", "viewer"))


@pytest.fixture
def offering(desk, tmp_path, monkeypatch):
    """Give the server a folder with one workload."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny.py").write_text(WORKLOAD)
    shared = contexts.context()
    changed = dataclasses.replace(shared, settings=ServerSettings(workloads=(tmp_path / "models",)))
    for module in (new_run, runs):
        monkeypatch.setattr(module, "context", lambda: changed)
    return f"local|{tmp_path / 'models' / 'tiny.py'}:tiny"


def add_run(desk, name="other.py:workload"):
    run = with_content_id(dataclasses.replace(desk.run, name=name))
    return desk.store.save("run", lambda folder: save_run(run, folder), name=name, created="2027-01-01T00:00:00+00:00")


def test_the_list_shows_the_runs_that_the_address_chooses(desk):
    add_run(desk)
    assert [row["name"] for row in by_id(runs.layout({}), "runs-grid").rowData] == ["other.py:workload", desk.run.name]
    chosen = runs.layout({"filter": filter_text(RunFilter(search="other"))})
    assert [row["name"] for row in by_id(chosen, "runs-grid").rowData] == ["other.py:workload"]
    assert by_id(chosen, "runs-search").value == "other"
    assert texts(by_id(chosen, "runs-count")) == "1 of 2 runs fit the filter"


def test_without_a_folder_of_workloads_the_page_says_how_to_give_one(desk):
    shown = texts(runs.layout({}))
    assert "hotbench serve --workloads FOLDER" in shown and "new-run-start" not in ids(runs.layout({}))


def test_a_capture_is_a_job_of_the_person_who_asked(desk, offering):
    job = new_run.start(offering, "cpu", 3, None)
    assert (job.kind, job.user, job.arguments["steps"]) == ("profile", "local", 3)
    assert job.arguments["workload"].endswith("models/tiny.py:tiny")
    assert "Capture tiny.py:tiny" in texts(runs.layout({}))


def test_an_empty_store_says_what_to_do_beside_the_same_panel(desk, offering, monkeypatch):
    monkeypatch.setattr(runs, "all_rows", lambda store: [])
    tree = runs.layout({})
    assert by_id(tree, "runs-empty").hidden is False and by_id(tree, "runs-list").hidden is True
    assert "new-run-start" in ids(tree)


def test_two_selected_runs_can_be_compared_the_older_one_first(desk):
    add_run(desk)
    newer, older = runs.all_rows(desk.store)
    shown = run_acts.selected([newer, older])
    assert addresses(shown) == [f"/compare?before={older['id']}&after={newer['id']}"]


def test_tags_are_cleaned_and_saved(desk):
    entry = run_acts.tag_run(desk.run.id, ["  a   b ", "a b", "", "\x1b[31mred"])
    assert entry.tags == ("a b", "�[31mred")
    assert run_acts.tag_run(desk.run.id, []).tags == ()


@pytest.mark.parametrize("tags, words", [(["x" * 41], "too long"), ([str(n) for n in range(21)], "too many")])
def test_tags_out_of_bounds_are_refused(desk, tags, words):
    with pytest.raises(HotbenchError, match=words):
        run_acts.tag_run(desk.run.id, tags)


def test_a_run_that_something_was_made_from_stays(desk):
    other = add_run(desk)
    removed, held = run_acts.delete_runs([other.id, desk.run.id, "run-unknown"])
    assert (removed, held) == ([other.name], [desk.run.name])
    assert [entry.id for entry in desk.store.entries("run")] == [desk.run.id]


def test_a_viewer_reads_everything_and_changes_nothing(desk, offering, viewer):
    other = add_run(desk)
    tree = runs.layout({})
    assert by_id(tree, "new-run-start").disabled is True
    assert desk.store.label not in texts(tree)
    rows = runs.all_rows(desk.store)
    acts = run_acts.selected(rows[:1])
    assert all(by_id(acts, name).disabled is True for name in ("runs-tags", "runs-save-tags", "runs-delete"))
    assert "needs the role editor" in texts(acts)
    for act in (
        lambda: run_acts.tag_run(other.id, ["x"]),
        lambda: run_acts.delete_runs([other.id]),
        lambda: new_run.start(offering, "cpu", None, None),
        lambda: compare.start(other.id, desk.run.id),
    ):
        with pytest.raises(Forbidden, match="vera is a viewer"):
            act()
    assert len(desk.store.entries("run")) == 2 and not desk.jobs.list()
