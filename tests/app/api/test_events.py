"""Streams of events: they begin with what runs, go on where they broke off, and hold no thread for ever."""

import json
import threading
import urllib.request

import pytest
from flask import Flask

from app.api import events
from app.api.events import KEEP_ALIVE_SECONDS, LOOK_SECONDS, MOST_STREAMS, STREAM_SECONDS, stream
from app.jobs.job import Note
from app.jobs.queue import Jobs
from app.store import open_store
from app.web import context as contexts
from app.web.context import Context, ServerSettings
from app.web.faults import answer_errors
from tests.app.jobs.making import Clock, submit
from tests.app.web.servers import listening


@pytest.fixture
def store(tmp_path):
    with open_store(str(tmp_path / "store")) as opened:
        yield opened


@pytest.fixture
def jobs(store):
    return Jobs(store.database)


@pytest.fixture
def client(store, jobs):
    flask = Flask("app")
    shared = Context(ServerSettings(), store, jobs)
    contexts.install(shared, flask.extensions)
    answer_errors(flask)
    flask.register_blueprint(events.blueprint)
    with flask.test_client() as client:
        yield client
    shared.stopping.set()


class Listening:
    """A stream whose time passes only while it waits; `script` maps a number of waits to what happens then."""

    def __init__(self, jobs, after=None, script=None, seconds=STREAM_SECONDS):
        self.clock, self.waits = Clock(), 0
        self.script, self.stopping = script or {}, threading.Event()
        parts = stream(jobs, after, self.stopping, clock=self.clock, wait=self.wait, seconds=seconds)
        self.parts = list(parts)

    def wait(self, seconds):
        self.clock.now += seconds
        self.waits += 1
        if self.waits in self.script:
            self.script[self.waits]()

    @property
    def messages(self):
        return [read(part) for part in self.parts if part.startswith("id:")]


def read(part):
    id, data = part.strip().split("\n")
    message = json.loads(data.removeprefix("data: "))
    assert id == f"id: {message['version']}"
    return message


def test_a_first_connection_begins_with_all_live_jobs(jobs):
    live, over = submit(jobs, "quick"), submit(jobs, "quick")
    jobs.cancel(over.id, "bob")
    (first,) = Listening(jobs).messages
    assert first["snapshot"] is True and list(first["jobs"]) == [live.id]
    assert first["version"] == jobs.last_event()
    assert first["jobs"][live.id]["title"] == "a quick"


def test_a_first_connection_without_any_job_says_so(jobs):
    (first,) = Listening(jobs).messages
    assert first == {"version": 0, "jobs": {}, "snapshot": True}


def test_what_happens_is_told_with_the_job_as_it_is_now(jobs):
    job = submit(jobs, "profile")
    claim = jobs.claim_local().claim

    def work():
        jobs.report(job.id, claim, [Note("progress", "third", 0.3), Note("progress", "half", 0.5)])

    def end():
        jobs.finish(job.id, claim, "done", {"run": "run-1"})

    _, worked, over = Listening(jobs, script={2: work, 5: end}).messages
    assert worked["jobs"][job.id]["stage"] == "half" and worked["jobs"][job.id]["fraction"] == 0.5
    assert over["jobs"][job.id]["state"] == "done"
    assert over["jobs"][job.id]["link"] == {"text": "Open the run", "href": "/?run=run-1"}


def test_a_stream_goes_on_after_the_last_event_that_was_seen(jobs):
    first = submit(jobs, "quick")
    seen = jobs.last_event()
    second = submit(jobs, "quick")
    jobs.cancel(first.id, "bob")
    (missed,) = Listening(jobs, after=seen).messages
    assert missed["snapshot"] is False and set(missed["jobs"]) == {first.id, second.id}
    assert missed["jobs"][first.id]["state"] == "cancelled"
    assert Listening(jobs, after=jobs.last_event()).messages == []


def test_an_event_of_another_store_begins_anew(jobs):
    job = submit(jobs, "quick")
    (first,) = Listening(jobs, after=10_000).messages
    assert first["snapshot"] is True and list(first["jobs"]) == [job.id]


def test_a_stream_ends_after_a_minute_and_keeps_alive_until_then(jobs):
    listening = Listening(jobs)
    assert listening.waits == pytest.approx(STREAM_SECONDS / LOOK_SECONDS, abs=1)
    comments = [part for part in listening.parts if part.startswith(":")]
    assert len(comments) == pytest.approx(STREAM_SECONDS / KEEP_ALIVE_SECONDS, abs=1)


def test_a_stream_ends_with_the_server(jobs):
    listening = threading.Event()
    listening.set()
    parts = list(stream(jobs, None, listening, clock=Clock()))
    assert len(parts) == 2


def test_a_stream_lives_through_a_locked_database(jobs, monkeypatch):
    from app.store import StoreError

    real, times = jobs.last_event, iter([False, True, True])

    def sometimes():
        if next(times, False):
            raise StoreError("locked")
        return real()

    job = submit(jobs, "quick")
    monkeypatch.setattr(jobs, "last_event", sometimes)
    (first, then) = Listening(jobs, script={4: lambda: jobs.cancel(job.id, "bob")}).messages
    assert first["snapshot"] and then["jobs"][job.id]["state"] == "cancelled"


def test_names_in_a_job_cannot_break_out_of_their_line(jobs):
    job = jobs.submit("quick", {}, title="a\n\ndata: {}\nid: 99\r\n</script>", user="ada")
    (first,) = Listening(jobs).messages
    assert first["jobs"][job.id]["title"] == "a\n\ndata: {}\nid: 99\r\n</script>"


def test_the_answer_is_an_event_stream_that_nobody_keeps(client):
    with client.get("/api/events", buffered=False) as answer:
        assert answer.mimetype == "text/event-stream" and answer.headers["Cache-Control"] == "no-store"


def test_too_many_streams_are_refused_until_one_ends(client):
    open_ones = [client.get("/api/events") for _ in range(MOST_STREAMS)]
    refused = client.get("/api/events")
    assert refused.status_code == 503 and int(refused.headers["Retry-After"]) > 0
    open_ones.pop().close()
    again = client.get("/api/events")
    assert again.status_code == 200
    for answer in (*open_ones, again):
        answer.close()


def test_the_log_is_given_from_where_it_was_read_to(client, jobs):
    job = submit(jobs, "quick")
    claim = jobs.claim_local().claim
    jobs.report(job.id, claim, [Note("log", "one"), Note("progress", "half", 0.5), Note("log", "<two>")])
    whole = client.get(f"/api/jobs/{job.id}/log").json
    assert [text for _, text in whole["lines"]] == ["one", "<two>"] and whole["state"] == "running"
    assert client.get(f"/api/jobs/{job.id}/log?after={whole['last']}").json == {**whole, "lines": []}
    jobs.report(job.id, claim, [Note("log", "three")])
    assert [text for _, text in client.get(f"/api/jobs/{job.id}/log?after={whole['last']}").json["lines"]] == ["three"]


def test_the_log_of_no_job_is_refused_in_words(client):
    answer = client.get("/api/jobs/job-x/log")
    assert answer.status_code == 400 and "no job 'job-x'" in answer.json["error"]


@pytest.mark.parametrize("after", ["-1", "abc", "9" * 40, "1.5"])
def test_an_after_that_is_no_number_counts_as_none(client, jobs, after):
    submit(jobs, "quick")
    with client.get(f"/api/events?after={after}") as answer:
        parts = iter(answer.response)
        next(parts)
        assert b'"snapshot": true' in next(parts)


def test_the_live_jobs_are_listed(client, jobs):
    live, over = submit(jobs, "quick"), submit(jobs, "quick")
    jobs.cancel(over.id, "bob")
    assert list(client.get("/api/jobs").json["jobs"]) == [live.id]


def test_a_browser_that_reconnects_through_the_real_server_misses_nothing(tmp_path):
    with listening(ServerSettings(store=str(tmp_path / "store"), port=0)) as running:
        jobs = running.server.context.jobs
        job = submit(jobs, "nonsense", needs={"place": "worker-1"})
        with connect(running.origin) as first:
            snapshot = next_message(first)
            jobs.cancel(job.id, "bob")
            assert next_message(first)["jobs"][job.id]["state"] == "cancelled"
        with connect(running.origin, {"Last-Event-ID": str(snapshot["version"])}) as second:
            missed = next_message(second)
        assert missed["snapshot"] is False and missed["jobs"][job.id]["error"] == "cancelled by bob"


def connect(url, headers=None):
    request = urllib.request.Request(f"{url}/api/events", headers=headers or {})
    return urllib.request.urlopen(request, timeout=60)


def next_message(answer):
    """Return the next message of an open stream."""
    lines = []
    while True:
        line = answer.readline().decode().rstrip("\n")
        if line:
            lines.append(line)
        elif any(line.startswith("data:") for line in lines):
            return read("\n".join(lines))
        else:
            lines = []
