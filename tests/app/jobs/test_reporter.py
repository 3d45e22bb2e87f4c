"""What a job tells is written seldom, in order, and to the last word."""

import threading
import time

import pytest

from app.jobs.job import Note
from app.jobs.queue import Jobs
from app.jobs.reporter import Reporter
from app.store import StoreError
from tests.app.jobs.making import log, submit, until


class Written:
    """A queue that only remembers; `refuse` makes the next reports fail as a locked database does."""

    def __init__(self):
        self.reports, self.refuse, self.cancel = [], 0, False

    def report(self, id, claim, notes=(), heartbeat=True):
        if self.refuse:
            self.refuse -= 1
            raise StoreError("the store is locked")
        self.reports.append(list(notes))
        return self.cancel

    @property
    def texts(self):
        return [note.text for notes in self.reports for note in notes if note.kind == "log"]


def reporter(jobs, on_stop=lambda asked: None, **seconds):
    return Reporter(jobs, "job-1", "claim", on_stop, **seconds)


def test_many_words_become_few_writes_and_the_last_is_kept():
    jobs = Written()
    with reporter(jobs, flush_seconds=30.0) as told:
        until(lambda: jobs.reports, "it has begun")
        for step in range(1000):
            told.progress("counting", step / 1000)
    stages = [note for notes in jobs.reports for note in notes if note.kind == "progress"]
    assert len(jobs.reports) == 2 and stages[-1] == Note("progress", "counting", 0.999)


def test_each_stage_is_a_line_of_the_log_once():
    jobs = Written()
    with reporter(jobs) as told:
        for stage in ("one", "one", "two", "two", "one"):
            told.progress(stage, 0.1)
    assert jobs.texts == ["one", "two", "one"]


def test_no_line_is_lost_while_the_database_is_locked():
    jobs = Written()
    with reporter(jobs, flush_seconds=0.001) as told:
        for number in range(50):
            jobs.refuse = 1 if number % 7 == 0 else 0
            told.echo(str(number))
            time.sleep(0.001)
        jobs.refuse = 0
    assert jobs.texts == [str(number) for number in range(50)]


def test_a_heartbeat_comes_without_any_news():
    jobs = Written()
    with reporter(jobs, flush_seconds=0.001, heartbeat_seconds=0.002):
        until(lambda: len(jobs.reports) > 3, "hearts beat")
    assert all(notes == [] for notes in jobs.reports)


def test_a_request_to_cancel_is_passed_on_once():
    jobs, asked = Written(), []
    jobs.cancel = True
    with reporter(jobs, asked.append, flush_seconds=0.001, heartbeat_seconds=0.002):
        until(lambda: len(jobs.reports) > 3, "it looked again")
    assert asked == [True]


def test_a_lost_claim_is_passed_on(store):
    jobs, asked = Jobs(store.database), threading.Event()
    job = submit(jobs, "quick")
    jobs.claim_local()
    with Reporter(jobs, job.id, "of another", lambda cancel: None if cancel else asked.set()):
        assert asked.wait(60)
    assert log(jobs, job.id) == []


def test_the_row_has_the_last_stage_after_the_end(store):
    jobs = Jobs(store.database)
    job = submit(jobs, "quick")
    claim = jobs.claim_local().claim
    with Reporter(jobs, job.id, claim, lambda asked: None) as told:
        for step in range(200):
            told.progress(f"step {step}", step / 200)
    now = jobs.get(job.id)
    assert (now.stage, now.fraction) == ("step 199", 0.995)
    assert log(jobs, job.id) == [f"step {step}" for step in range(200)]


def test_a_value_is_written_down_before_anything_else_happens(store):
    jobs = Jobs(store.database)
    job = submit(jobs, "quick")
    claim = jobs.claim_local().claim
    with Reporter(jobs, job.id, claim, lambda asked: None, flush_seconds=30.0) as told:
        told.value("run-1")
        assert [event.text for event in jobs.events(job=job.id, kinds=("value",))] == ["run-1"]


@pytest.mark.parametrize("times", [1, 2])
def test_closing_writes_what_is_left_and_may_be_done_twice(times):
    jobs = Written()
    told = reporter(jobs, flush_seconds=30.0)
    with told:
        told.echo("last words")
        for _ in range(times):
            told.close()
    assert jobs.texts == ["last words"]
