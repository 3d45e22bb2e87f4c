"""A job's card and the drawer, as component trees."""

import pytest
from flask import Flask

from analyzer.errors import HotbenchError
from app.components.jobs import drawer_list, elapsed, header_button, job_progress, live_jobs
from app.jobs.job import Note
from app.jobs.queue import Jobs
from app.store import open_store
from app.store.workers import Workers
from app.web import context as contexts
from app.web.access import Person
from app.web.context import Context, ServerSettings
from tests.app.jobs.making import submit


@pytest.fixture
def jobs(tmp_path):
    flask = Flask("app")
    with open_store(str(tmp_path / "store")) as store:
        jobs = Jobs(store.database)
        contexts.install(Context(ServerSettings(), store, jobs), flask.extensions)
        with flask.test_request_context():
            yield jobs


def parts(tree, job):
    """Return the live parts of a card by name."""
    found = {}
    for component in tree._traverse():
        id = getattr(component, "id", None)
        if isinstance(id, dict) and id["job"] == job.id:
            found[id["type"].removeprefix("job-")] = component
    return found


def claim(jobs, job):
    return jobs.claim(job.needs.get("place", "local"), lambda needs: True).claim


def test_a_queued_job_waits_and_can_be_cancelled(jobs):
    job = submit(jobs, "quick")
    card = parts(job_progress(job), job)
    assert card["state"].children == "queued" and card["stage"].children == "waits for its turn"
    assert card["cancel"].style["display"] == "inline-flex" and card["error"].style["display"] == "none"
    assert card["link"].children is None


def test_a_running_job_shows_stage_and_share(jobs):
    job = submit(jobs, "quick")
    jobs.report(job.id, claim(jobs, job), [Note("progress", "timing", 0.426)])
    card = parts(job_progress(jobs.get(job.id)), job)
    assert (card["stage"].children, card["percent"].children, card["bar"].value) == ("timing", "43 %", 43)
    assert card["bar-box"].style["display"] == "block"


def test_the_bar_and_the_button_say_of_which_job_they_are(jobs):
    job = submit(jobs, "quick")
    card = parts(job_progress(job), job)
    assert getattr(card["bar"], "aria-label") == "Progress of a quick"
    assert getattr(card["cancel"], "aria-label") == "Cancel a quick"


def test_a_failed_job_shows_its_words_and_no_bar(jobs):
    job = submit(jobs, "quick")
    failed = jobs.finish(job.id, claim(jobs, job), "failed", error="no file x")
    card = parts(job_progress(failed), job)
    assert card["error"].children == "no file x" and card["error"].style["display"] == "block"
    assert card["bar-box"].style["display"] == card["cancel"].style["display"] == "none"


def test_a_done_job_links_to_its_result(jobs):
    job = submit(jobs, "profile")
    done = jobs.finish(job.id, claim(jobs, job), "done", {"run": "run-1"})
    link = parts(job_progress(done), job)["link"].children
    assert (link.children, link.href) == ("Open the run", "/?run=run-1")


def test_a_job_that_is_being_cancelled_cannot_be_cancelled_again(jobs):
    job = submit(jobs, "quick")
    claim(jobs, job)
    card = parts(job_progress(jobs.cancel(job.id, "bob")), job)
    assert card["cancel"].style["display"] == "none" and card["stage"].children == "being cancelled"
    assert card["error"].style["display"] == "none"


def test_a_viewer_cannot_click_cancel(jobs, monkeypatch):
    job = submit(jobs, "quick")
    assert parts(job_progress(job), job)["cancel"].disabled is False
    monkeypatch.setattr("app.web.access.person", lambda: Person("vera", "viewer"))
    assert parts(job_progress(job), job)["cancel"].disabled is True


def test_two_cards_of_one_job_have_ids_of_their_own(jobs):
    job = submit(jobs, "quick")
    first, second = parts(job_progress(job, "drawer"), job), parts(job_progress(job, "page"), job)
    assert set(first) == set(second) and all(first[name].id != second[name].id for name in first)


def test_the_time_is_given_for_the_browser_to_count_on(jobs):
    job = submit(jobs, "quick")
    assert getattr(elapsed(job), "data-seconds") == ""
    claim(jobs, job)
    assert float(getattr(elapsed(jobs.get(job.id)), "data-seconds")) >= 0


def test_a_worker_is_shown_by_its_name(jobs):
    worker, _token = Workers(contexts.context().store.database).add("gpu-box", "ada")
    job = submit(jobs, "quick", needs={"place": worker.id})
    claim(jobs, job)
    assert "gpu-box" in str(job_progress(jobs.get(job.id)))


def test_the_header_counts_live_jobs_and_knows_where_the_stream_goes_on(jobs):
    live, over = submit(jobs, "quick"), submit(jobs, "quick")
    jobs.cancel(over.id, "bob")
    found = {getattr(item, "id", None): item for item in header_button()._traverse() if not isinstance(item, str)}
    assert found["jobs-count"].label == "1" and getattr(found["jobs-button"], "aria-label") == "Jobs: 1 running"
    assert found["job-feed"].data["version"] == jobs.last_event() and list(found["job-feed"].data["jobs"]) == [live.id]


def test_what_runs_comes_before_what_waits(jobs):
    first, second, third = (submit(jobs, "quick") for _ in range(3))
    jobs.claim("local", lambda needs: True)
    assert [job.id for job in live_jobs()] == [first.id, second.id, third.id]
    jobs.finish(first.id, jobs.get(first.id).claim, "done", {})
    assert [job.id for job in live_jobs()] == [second.id, third.id]


def test_the_drawer_lists_live_and_ended_jobs_or_says_there_are_none(jobs):
    assert "Nothing was asked for yet" in str(drawer_list())
    live, over = submit(jobs, "quick"), submit(jobs, "quick")
    jobs.cancel(over.id, "bob")
    text = str(drawer_list())
    assert text.index(live.id) < text.index(over.id)


def test_an_unknown_job_is_refused_in_words(jobs):
    with pytest.raises(HotbenchError, match="no job 'job-x'"):
        jobs.get("job-x")
