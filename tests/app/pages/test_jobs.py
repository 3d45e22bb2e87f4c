"""The jobs page as a component tree, and the act of running a job again."""

import dataclasses

import pytest
from flask import Flask

from analyzer.errors import HotbenchError
from app.jobs.job import Note
from app.jobs.queue import Jobs
from app.pages import jobs as page
from app.store import open_store
from app.web import access
from app.web import context as contexts
from app.web.access import Forbidden, Person
from app.web.context import Context, ServerSettings
from tests.app.jobs.making import submit
from tests.app.values import HOSTILE


@pytest.fixture
def jobs(tmp_path):
    flask = Flask("app")
    with open_store(str(tmp_path / "store")) as store:
        jobs = Jobs(store.database)
        contexts.install(Context(ServerSettings(), store, jobs), flask.extensions)
        with flask.test_request_context():
            yield jobs


def part(tree, name):
    """Return the component of a part of the page."""
    for item in tree._traverse():
        id = getattr(item, "id", None)
        if isinstance(id, dict) and id["type"] == name:
            return item
    raise AssertionError(f"no {name} on the page")


def test_an_empty_list_says_what_a_job_is_and_where_to_start_one(jobs):
    assert "No job yet" in str(page.layout({})) and "/runs" in str(page.layout({}))


def test_live_jobs_are_cards_and_ended_ones_rows(jobs):
    live, over = submit(jobs, "quick"), submit(jobs, "quick")
    jobs.cancel(over.id, "bob")
    text = str(page.layout({}))
    assert f"'job': '{live.id}'" in text and f"/jobs?job={over.id}" in text
    assert text.index("Running and waiting") < text.index("Ended")


def test_a_chosen_job_shows_its_command_and_its_log(jobs):
    job = jobs.submit("profile", {"workload": "/m.py:f"}, title="Capture m", user="ada")
    jobs.report(job.id, jobs.claim_local().claim, [Note("log", "one"), Note("log", HOSTILE)])
    tree = page.layout({"job": job.id})
    text = str(tree)
    assert "hotbench profile /m.py:f" in text
    log = part(tree, "job-log")
    assert log.data["last"] == jobs.last_event() and [line[1] for line in log.data["lines"]] == ["one", HOSTILE]


def test_the_parts_of_another_job_have_other_ids(jobs):
    # An answer that comes late must find no place on the page of another job.
    first, second = page.layout({"job": submit(jobs, "quick").id}), page.layout({"job": submit(jobs, "quick").id})
    for name in ("jobs-lists", "job-again", "job-again-box", "job-log", "job-log-lines"):
        assert part(first, name).id != part(second, name).id
    assert part(page.layout({}), "jobs-lists").id["job"] == "none"


def test_a_live_job_cannot_be_run_again_and_an_ended_one_can(jobs):
    job = submit(jobs, "quick")

    def hidden():
        return part(page.layout({"job": job.id}), "job-again-box").hidden

    assert hidden() is True
    jobs.cancel(job.id, "bob")
    assert hidden() is False


def test_running_again_asks_for_the_same_work(jobs):
    job = submit(jobs, "quick", "/folder", needs={"place": "worker-1"}, about="run-1")
    jobs.cancel(job.id, "bob")
    again = page.run_again(job.id)
    same = dataclasses.replace(again, id=job.id, created=job.created, user=job.user)
    assert same == job and again.user == "local"


def test_a_viewer_may_not_run_anything_again(jobs, monkeypatch):
    job = submit(jobs, "quick")
    monkeypatch.setattr(access, "person", lambda: Person("vera", "viewer"))
    with pytest.raises(Forbidden, match="vera is a viewer"):
        page.run_again(job.id)
    assert len(jobs.list()) == 1


def test_an_unknown_job_in_the_address_is_refused_in_words(jobs):
    with pytest.raises(HotbenchError, match="no job 'job-x'"):
        page.layout({"job": "job-x"})
