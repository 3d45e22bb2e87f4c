"""Each act of a page has a command that the command line reads; who may not act sees why before the click."""

import dataclasses
import shlex

import pytest

from analyzer.run import save_run, with_content_id
from app.cli import make_parser
from app.components import command as commands
from app.components.optimize_state import command_of
from app.components.options_form import Form
from app.components.role import needs_role
from app.derived.query import OpsQuery, read_query
from app.pages import artifacts, compare, experiments, jobs, operators, optimize, report, runs, workers
from app.store import keeps
from app.web import access
from app.web import context as contexts
from app.web.access import Person
from app.web.context import Context, ServerSettings
from tests.app.components.tree import by_id, texts
from tests.app.values import report_run


def every(tree):
    return [tree, *tree._traverse()]


def shown_commands(tree):
    return [item.children for item in every(tree) if getattr(item, "className", None) == "hb-command-text"]


def read(text):
    """Return the options that the command line reads of a shown command."""
    words = shlex.split(text)
    assert words[0] == "hotbench"
    return make_parser().parse_args(words[1:])


@pytest.fixture
def viewer(monkeypatch):
    for module in (access, report, runs, workers):
        monkeypatch.setattr(module, "person", lambda: Person("vera", "viewer"))


def test_an_experiments_acts_have_their_commands(desk):
    read_ones = [read(text) for text in shown_commands(experiments.layout({"experiment": desk.experiment.id}))]
    assert {"keep", "export", "publish", "report"} <= {options.name for options in read_ones}
    assert all(options.store == contexts.context().settings.store for options in read_ones)


def test_a_kept_experiments_command_undoes(desk):
    keeps.keep(desk.store, desk.run.id, desk.experiment.id, "ada")
    found = [read(text) for text in shown_commands(experiments.layout({"experiment": desk.experiment.id}))]
    assert next(options for options in found if options.name == "keep").undo is True


def test_selected_runs_have_the_commands_of_their_acts(desk):
    rows = runs.all_rows(desk.store)
    one = [read(text).name for text in shown_commands(runs.run_acts.selected(rows[:1]))]
    two = [read(text).name for text in shown_commands(runs.run_acts.selected([rows[0], {**rows[0], "id": "run-2"}]))]
    assert one == ["tag", "tag", "remove"] and two == ["compare", "remove"]


def test_a_report_and_its_review_have_their_commands(desk):
    assert shlex.split(report.publish_command("run-1", " it's  so "))[-2:] == ["--title", "it's so"]
    entry = desk.publish()
    names = [read(text) for text in shown_commands(report.layout({"report": entry.id}))]
    said = [options for options in names if options.name == "review"]
    assert [(options.approve, options.changes) for options in said] == [(True, None), (False, "REASON"), (False, None)]


def test_an_artifact_says_how_it_is_exported(desk):
    entry = desk.save_artifact()
    (text,) = shown_commands(artifacts.layout({"artifact": entry.id}))
    assert read(text).experiment == desk.experiment.id


def test_a_live_job_says_how_it_is_cancelled_and_an_ended_one_does_not(desk):
    job = desk.jobs.submit("compare", {"before": "a", "after": "b"}, title="c", user="ada")
    assert [read(text).name for text in shown_commands(jobs.layout({"job": job.id}))] == ["compare", "jobs"]
    desk.jobs.cancel(job.id, "ada")
    assert [read(text).name for text in shown_commands(jobs.layout({"job": job.id}))] == ["compare"]


def test_the_csv_has_the_command_that_writes_exactly_these_rows():
    query = OpsQuery(by="name", search='it\'s "so"', sort=(("count", "desc"),))
    assert read_query(read(operators.csv_command("run-1", query)).filter) == query
    assert read(operators.csv_command("run-1", OpsQuery())).filter is None


def test_several_optimizers_together_have_one_command():
    forms = (Form("swap", {"swap.x": "a b"}, "1e-4"), Form("fusion", {"fusion.min_gain": "0.1"}, "1e-5"))
    options = read(command_of("run-1", *forms))
    assert (options.names, options.max_error) == ("fusion,swap", 1e-5)
    assert sorted(options.settings) == ["fusion.min_gain=0.1", "swap.x=a b"]


@pytest.mark.parametrize(
    ("place", "words"), [(None, ""), ("/a b", " --store '/a b'"), ("postgresql://u:secret@h/d?blobs=/b", "")]
)
def test_the_store_is_named_where_the_server_was_started_with_one(desk, monkeypatch, place, words):
    shared = Context(ServerSettings(store=place), desk.store, desk.jobs)
    monkeypatch.setattr(commands, "context", lambda: shared)
    assert commands.store_words() == words


def test_the_stores_place_is_shown_to_admins_alone(desk, monkeypatch):
    monkeypatch.setattr(access, "person", lambda: Person("eve", "editor"))
    assert commands.store_words() == ""


def disabled(tree, act):
    return [
        item.disabled
        for item in every(tree)
        if isinstance(getattr(item, "id", None), dict) and act in (item.id.get("act"), item.id.get("type"))
    ]


def test_a_viewer_sees_an_experiments_acts_disabled_and_why(desk, viewer):
    tree = experiments.layout({"experiment": desk.experiment.id})
    assert [disabled(tree, act) for act in ("keep", "export", "publish")] == [[True]] * 3
    assert "needs the role editor" in texts(tree)


def test_an_editor_may_act_and_sees_no_such_line(desk, monkeypatch):
    monkeypatch.setattr(access, "person", lambda: Person("eve", "editor"))
    tree = experiments.layout({"experiment": desk.experiment.id})
    assert [disabled(tree, act) for act in ("keep", "export", "publish")] == [[False]] * 3
    assert "needs the role" not in texts(tree) and needs_role("capturing") == []


def test_a_viewer_sees_why_nothing_can_be_applied_measured_cancelled_or_let_in(desk, viewer):
    job = desk.jobs.submit("compare", {"before": "a", "after": "b"}, title="c", user="ada")
    detail = jobs.layout({"job": job.id})
    assert disabled(detail, "job-cancel") == [True] and disabled(detail, "job-again") == [True]
    for tree in (optimize.layout({"run": desk.run.id}), detail, jobs.layout({})):
        assert "needs the role editor" in texts(tree)
    assert "needs the role admin" in texts(workers.layout({}))
    other = with_content_id(dataclasses.replace(report_run(), name="other.py:workload"))
    saved = desk.store.save("run", lambda folder: save_run(other, folder), name=other.name)
    tree = compare.layout({"before": desk.run.id, "after": saved.id})
    assert by_id(tree, "compare-start").disabled is True and "needs the role editor" in texts(tree)
