"""What happens to jobs, told to browsers as it happens: server-sent events, and one job's log.

    GET /api/events            text/event-stream. Each message: id = the latest event's id, data = {"version": id,
                               "jobs": {id: app.views.jobs.told}, "snapshot": bool}: what changed, as it is now.
    GET /api/jobs              {"version", "jobs"}: the live ones.
    GET /api/jobs/ID/log?after=N   {"job", "state", "last", "lines": [[created, text], ...]}

A stream without Last-Event-ID (or ?after=) begins with all live jobs. It ends after a minute, so that a thread is never
held for ever: the browser connects again by itself and goes on after the last event that it saw.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Blueprint, Response, request

from app.jobs.job import Job
from app.jobs.queue import Jobs
from app.store import StoreError
from app.views.jobs import told
from app.web.context import context

LOOK_SECONDS = 0.25
KEEP_ALIVE_SECONDS = 10.0
STREAM_SECONDS = 60.0
MOST_STREAMS = 16
RETRY_SECONDS = 5

blueprint = Blueprint("events", __name__, url_prefix="/api")


class Streams:
    """How many streams are open; each holds one of the server's threads."""

    def __init__(self, most: int = MOST_STREAMS) -> None:
        self._room = threading.BoundedSemaphore(most)

    def enter(self) -> bool:
        """Return whether there is room for one more; who got True must `leave`."""
        return self._room.acquire(blocking=False)

    def leave(self) -> None:
        """Make room again."""
        self._room.release()


_streams = Streams()


def message(version: int, jobs: Iterable[Job], snapshot: bool = False) -> str:
    """Return one server-sent event."""
    data = {"version": version, "jobs": {job.id: told(job) for job in jobs}, "snapshot": snapshot}
    return f"id: {version}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def stream(
    jobs: Jobs,
    after: int | None,
    stopping: threading.Event,
    *,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] | None = None,
    seconds: float = STREAM_SECONDS,
) -> Iterator[str]:
    """Yield server-sent events until `seconds` are over or the server stops."""
    pause = wait or stopping.wait
    end, spoke = clock() + seconds, clock()
    yield "retry: 1000\n\n"
    latest = jobs.last_event()
    # A store that was emptied or exchanged counts from the start: what the browser saw is of another one.
    seen = after if after is not None and after <= latest else None
    if seen is None:
        seen = latest
        yield message(seen, jobs.list(live=True), snapshot=True)
    while clock() < end and not stopping.is_set():
        try:
            version, changed = jobs.changed(seen) if jobs.last_event() > seen else (seen, ())
        except StoreError:
            version, changed = seen, ()
        if version > seen:
            seen, spoke = version, clock()
            yield message(version, changed)
        elif clock() - spoke > KEEP_ALIVE_SECONDS:
            spoke = clock()
            yield ": still here\n\n"
        pause(LOOK_SECONDS)


@blueprint.get("/events")
def events() -> Response:
    """Return the stream, or 503 when too many are open."""
    # All that is known of the request is read before the first part is sent: later it is gone.
    shared, after = context(), _after()
    if not _streams.enter():
        full = Response("too many open event streams; close a tab\n", 503, mimetype="text/plain")
        full.headers["Retry-After"] = str(RETRY_SECONDS)
        return full
    answer = Response(stream(shared.jobs, after, shared.stopping), mimetype="text/event-stream")
    # Called however the answer ends, also where its first part was never asked for.
    answer.call_on_close(_streams.leave)
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


@blueprint.get("/jobs")
def live() -> dict[str, Any]:
    """Return the live jobs."""
    jobs = context().jobs
    return {"version": jobs.last_event(), "jobs": {job.id: told(job) for job in jobs.list(live=True)}}


@blueprint.get("/jobs/<id>/log")
def log(id: str) -> dict[str, Any]:
    """Return a job's log lines after an event."""
    jobs = context().jobs
    job = jobs.get(id)
    lines = jobs.events(after=_after() or 0, job=id, kinds=("log",))
    last = lines[-1].id if lines else _after() or 0
    return {"job": id, "state": job.state, "last": last, "lines": [[line.created, line.text] for line in lines]}


def _after() -> int | None:
    text = request.headers.get("Last-Event-ID") or request.args.get("after", "")
    return int(text) if text.isdigit() and len(text) < 19 else None
