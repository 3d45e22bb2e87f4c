"""What a job says reaches the server in its order, also after the server was away; a cancel comes back once."""

import pytest

from app.worker import relay as relaying
from app.worker.client import Assignment
from app.worker.errors import LostJobError, RefusedError, UnreachableError
from app.worker.relay import Relay

JOB = Assignment("job-1", "c1", "profile", "a job", {}, {})


class Server:
    """Notes what it is told; `says` holds what it answers next."""

    def __init__(self):
        self.told, self.says = [], []

    def report(self, _load, job, notes):
        answer = self.says.pop(0) if self.says else False
        if isinstance(answer, Exception):
            raise answer
        self.told.append((job.id if job else None, notes))
        return answer

    @property
    def lines(self):
        return [note["text"] for _, notes in self.told for note in notes if note["kind"] == "log"]


@pytest.fixture
def parts():
    """Return (server, relay, what it was asked to stop for); its thread is not started: the test is the thread."""
    server, stops = Server(), []
    return server, Relay(server, stops.append), stops


def test_lines_and_the_latest_stage_are_told(parts):
    server, relay, _ = parts
    relay.hold(JOB)
    relay.echo("one")
    relay.progress("first", 0.1)
    relay.progress("second", 0.2)
    relay.echo("two")
    relay._tell()
    relay._tell()
    stage = {"kind": "progress", "text": "second", "fraction": 0.2}
    lines = [{"kind": "log", "text": text} for text in ("one", "two")]
    assert server.told == [("job-1", [*lines, stage]), ("job-1", [])]


def test_what_was_not_taken_is_told_again_in_the_old_order(parts):
    server, relay, stops = parts
    server.says = [UnreachableError("away"), UnreachableError("away")]
    relay.hold(JOB)
    for text in ("one", "two"):
        relay.echo(text)
        relay.progress(text, 0.5)
        relay._tell()
    relay.echo("three")
    relay._tell()
    assert server.lines == ["one", "two", "three"] and stops == []
    assert [note["text"] for note in server.told[0][1] if note["kind"] == "progress"] == ["two"]


def test_lines_beyond_the_limit_are_counted(parts, monkeypatch):
    monkeypatch.setattr(relaying, "_KEPT_LINES", 3)
    server, relay, _ = parts
    relay.hold(JOB)
    for number in range(5):
        relay.echo(str(number))
    relay._tell()
    assert server.lines == ["2 lines were lost while the server could not be reached", "2", "3", "4"]


def test_a_cancel_stops_the_job_once_and_a_new_one_anew(parts):
    server, relay, stops = parts
    server.says = [True, True, True]
    relay.hold(JOB)
    relay._tell()
    relay._tell()
    assert stops == [None]
    relay.release()
    relay.hold(JOB)
    relay._tell()
    assert stops == [None, None]


@pytest.mark.parametrize(
    ("error", "stopped"),
    [(LostJobError("ended"), True), (RefusedError("revoked", "token"), True), (RefusedError("odd"), False)],
)
def test_a_job_that_is_lost_is_stopped_and_a_report_that_is_not_liked_is_not_the_end(parts, error, stopped):
    server, relay, stops = parts
    server.says = [error]
    relay.hold(JOB)
    relay._tell()
    assert stops == ([error] if stopped else [])


def test_without_a_job_it_only_says_that_it_lives(parts):
    server, relay, stops = parts
    relay.echo("of nobody")
    server.says = [False, LostJobError("of nobody")]
    relay._tell()
    relay._tell()
    assert server.told == [(None, [])] and stops == []


def test_the_rest_goes_with_the_last_word(parts):
    _, relay, _ = parts
    relay.hold(JOB)
    relay.echo("last")
    assert [note["text"] for note in relay.rest()] == ["last"] and relay.rest() == []
