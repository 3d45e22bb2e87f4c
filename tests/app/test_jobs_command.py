"""`hotbench jobs`: a server's jobs, seen and cancelled from a script."""

import pytest

from app.author import command_line_author
from app.jobs.queue import Jobs
from app.store import open_store
from tests.app.commanding import asked, fails, run
from tests.app.values import HOSTILE


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "store")


def submit(place, title="Capture m"):
    with open_store(place) as store:
        return Jobs(store.database).submit("profile", {"workload": "/m.py:f"}, title=title, user="ada").id


def test_a_store_without_jobs_says_what_a_job_is(capsys, place):
    assert "no job yet" in run(capsys, "jobs", "--store", place)[1]
    assert asked(capsys, "jobs", "--store", place) == {"jobs": []}


def test_live_jobs_come_first_and_titles_do_nothing(capsys, place):
    waits, over = submit(place, HOSTILE), submit(place)
    asked(capsys, "jobs", "--cancel", over, "--store", place)
    jobs = asked(capsys, "jobs", "--store", place)["jobs"]
    assert [(job["id"], job["state"]) for job in jobs] == [(waits, "queued"), (over, "cancelled")]
    out = run(capsys, "jobs", "--store", place)[1]
    assert waits in out and over in out and "\x1b" not in out


def test_a_waiting_job_is_cancelled_at_once(capsys, place):
    id = submit(place)
    data = asked(capsys, "jobs", "--cancel", id[:8], "--store", place)
    assert (data["state"], data["error"]) == ("cancelled", f"cancelled by {command_line_author()}")


def test_a_running_job_is_asked_to_stop(capsys, place):
    id = submit(place)
    with open_store(place) as store:
        Jobs(store.database).claim_local()
    code, out, _ = run(capsys, "jobs", "--cancel", id, "--store", place)
    assert code == 0 and "is asked to stop" in out
    with open_store(place) as store:
        assert Jobs(store.database).get(id).cancel is True


@pytest.mark.parametrize("text", ["job-none", ""])
def test_an_unknown_job_is_one_line(capsys, place, text):
    submit(place)
    assert f"no job {text!r} in this store" in fails(capsys, "jobs", "--cancel", text, "--store", place)


def test_a_beginning_that_several_have_is_one_line(capsys, place):
    submit(place), submit(place)
    assert "'job-' is the beginning of 2 jobs" in fails(capsys, "jobs", "--cancel", "job-", "--store", place)


def test_an_ended_job_cannot_be_cancelled(capsys, place):
    id = submit(place)
    asked(capsys, "jobs", "--cancel", id, "--store", place)
    assert "has ended already: cancelled" in fails(capsys, "jobs", "--cancel", id, "--store", place)


def test_as_many_ended_jobs_are_listed_as_asked_for(capsys, place):
    for _ in range(3):
        asked(capsys, "jobs", "--cancel", submit(place), "--store", place)
    assert len(asked(capsys, "jobs", "--limit", "2", "--store", place)["jobs"]) == 2
