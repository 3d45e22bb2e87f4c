"""The workers' protocol: a bearer token says who asks, a session which of its processes, a claim for which job.

    hello -> claim (long poll) -> begin -> report … -> put values -> finish, and claim again

Every route is limited to the worker's own job. What is asked twice, since an answer was lost, is done once.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import IO, Any, cast

from flask import Blueprint, Response, g, jsonify, request, send_file
from werkzeug.exceptions import RequestEntityTooLarge

from analyzer.errors import HotbenchError, RecordError
from analyzer.record import read_folder
from app.api.worker_data import Sizes, about_of, assignment, notes_of, read_ending, sizes, with_load, workloads_of
from app.derived.prepare import prepare_or_tell
from app.intake import Intake
from app.jobs.ending import end_in_words
from app.jobs.errors import ClaimLostError, JobError
from app.jobs.job import Job, Note
from app.jobs.queue import Jobs
from app.jobs.work import settle
from app.store import Entry, StoreError
from app.store.workers import Worker, Workers
from app.web.context import context
from app.worker.transfer import pack
from app.workloads import can_do

blueprint = Blueprint("workers", __name__, url_prefix="/api/worker")

LONGEST_WAIT_SECONDS = 20.0
_LOOK_SECONDS = 0.5
_MOST_JOBS = 1000
_waiting = threading.BoundedSemaphore(8)
"""A waiting worker holds one of the server's threads: the ones beyond are answered at once."""
_handing_over = threading.Lock()
"""A worker that lost patience may say the end of a job again while the first time is being worked on."""


class TokenError(HotbenchError):
    """Nobody's token, or one that was revoked: the worker stops."""


class SessionError(HotbenchError):
    """Another process works with the same token: this one stops."""


@blueprint.before_request
def _know_worker() -> None:
    """Find the worker of the token; every route but `hello` also wants the session that it began."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenError("this route is for workers, which send their token; `hotbench workers add NAME` makes one")
    worker = _workers().of_token(token.strip())
    if worker is None:
        raise TokenError("no worker has this token; make one with `hotbench workers add NAME` on the server")
    if worker.revoked is not None:
        raise TokenError(f"the token of {worker.name} was revoked at {worker.revoked}; ask whoever runs the server")
    if request.endpoint != "workers.hello" and worker.about.get("session") != _session():
        raise SessionError(f"another process works as {worker.name} by now; give each worker a token of its own")
    g.worker = worker


@blueprint.post("/hello")
def hello() -> Response:
    """Begin a session. What an earlier process of this worker left behind is ended, or goes back into the queue."""
    worker, session = _worker(), _session()
    if not session:
        raise HotbenchError("a worker's process must name its session; upgrade the worker")
    if worker.about.get("session") != session:
        for job in _held(worker):
            _give_up(job, "the worker was started anew while this ran; start the job again")
    _workers().seen(worker.id, {**about_of(_body()), "session": session})
    return jsonify({"id": worker.id, "name": worker.name, "wait_seconds": LONGEST_WAIT_SECONDS})


@blueprint.post("/claim")
def claim() -> Response:
    """Give the worker a job that it can do; wait a while for one."""
    worker, data = _worker(), _body()
    about = {**worker.about, "workloads": workloads_of(data)}
    _workers().seen(worker.id, about if about != worker.about else None)
    job = _undelivered(worker)
    if job is None:
        may_wait = _waiting.acquire(blocking=False)
        try:
            wait = min(max(float(data.get("wait_seconds") or 0), 0.0), LONGEST_WAIT_SECONDS) if may_wait else 0.0
            job = _next(worker, partial(can_do, about, worker.id), wait)
        finally:
            if may_wait:
                _waiting.release()
    return jsonify({"job": assignment(job) if job is not None else None})


@blueprint.post("/jobs/<id>/begin")
def begin(id: str) -> Response:
    """Note that the work begins: the job is not given out again from here on."""
    job = _own(id)
    _jobs().begin(job.id, job.claim or "", {"session": _session()})
    return jsonify({})


@blueprint.post("/report")
def report() -> Response:
    """Note that the worker lives and how its job goes; answer whether that was cancelled."""
    worker, data = _worker(), _body()
    _workers().seen(worker.id, with_load(worker.about, data.get("load"), time.time()))
    if data.get("job") is not None:
        job = _own(str(data["job"]))
        return jsonify({"cancel": _jobs().report(job.id, job.claim or "", notes_of(data))})
    for job in _held(worker):
        # Its answer is on the way, or was lost and is asked for again: the worker lives.
        if job.process is None:
            _jobs().report(job.id, job.claim or "")
    return jsonify({"cancel": False})


@blueprint.get("/jobs/<id>/inputs/<name>")
def get_input(id: str, name: str) -> Response:
    """Send the value that an argument of the job means, packed."""
    job, store = _own(id), context().store
    entry = _input(job, name)
    folder = store.folder(entry)
    if read_folder(folder, entry.kind).digest() != entry.digest:
        raise RecordError(f"{entry.id} is not what was saved: its manifest differs; restore it or make it anew")
    packed = cast("IO[bytes]", tempfile.TemporaryFile())  # noqa: SIM115
    pack(folder, packed)
    packed.seek(0)
    answer = send_file(packed, mimetype="application/zip", etag=False)
    answer.headers["Hotbench-Kind"] = entry.kind
    return answer


@blueprint.put("/jobs/<id>/values/<kind>/<value>")
def put_value(id: str, kind: str, value: str) -> Response:
    """Lay a value aside, checked; it is saved when the job is said to be done."""
    limits: Sizes = sizes()
    request.max_content_length = limits.packed
    job = _own(id)
    if (request.content_length or 0) > limits.packed:
        raise RequestEntityTooLarge
    if not job.live:
        # Its late result is still taken: nothing that was finished is lost.
        _check_late(job)
    Intake(context().store, job, _worker().name).put(kind, value, request.stream, limits.packed, limits.unpacked)
    return jsonify({})


@blueprint.post("/jobs/<id>/finish")
def finish(id: str) -> Response:
    """End the job as the worker says, its values saved first."""
    ending = read_ending(_body())
    with _handing_over:
        job = _own(id)
        intake = Intake(context().store, job, _worker().name)
        ended = _finish_late(job, intake, ending) if not job.live else _finish(job, intake, ending)
        intake.clear()
    response = jsonify({"state": ended.state, "error": ended.error})
    run = (ending["result"] or {}).get("run") if ending["state"] == "done" and job.kind == "profile" else None
    if isinstance(run, str):
        # The worker need not wait for it, nor the first visitor.
        response.call_on_close(partial(prepare_or_tell, context().store, run, logging.getLogger(__name__).warning))
    return response


@blueprint.errorhandler(HotbenchError)
def _refuse(error: HotbenchError) -> tuple[Response, int]:
    """Answer in words, with a code that tells the worker what to do."""
    if isinstance(error, TokenError):
        return jsonify({"error": str(error), "code": "token"}), 401
    if isinstance(error, SessionError):
        return jsonify({"error": str(error), "code": "session"}), 409
    if isinstance(error, JobError):
        return jsonify({"error": str(error), "code": "job"}), 409
    # A locked database or a full disk passes: the worker keeps what it has and comes again.
    passing = isinstance(error.__cause__, OSError) or (isinstance(error, StoreError) and error.__cause__ is not None)
    return jsonify({"error": str(error)}), 503 if passing else 400


@blueprint.errorhandler(RequestEntityTooLarge)
def _too_large(_error: RequestEntityTooLarge) -> tuple[Response, int]:
    return jsonify({"error": f"the upload is too large: at most {sizes().packed} bytes are taken"}), 413


def _finish(job: Job, intake: Intake, ending: Mapping[str, Any]) -> Job:
    jobs, claim = _jobs(), job.claim or ""
    notes = notes_of(ending)
    if notes:
        jobs.report(job.id, claim, notes)
    if ending["state"] == "done":
        result = ending["result"]
        intake.save(ending["values"], result)
        try:
            settle(context().store, job, result)
        except HotbenchError as error:
            # The experiment is saved and told of: only the mark is missing, and a person can set it.
            jobs.report(job.id, claim, [Note("log", f"its experiment could not be marked as kept: {error}")])
        return jobs.finish(job.id, claim, "done", result)
    if ending["state"] == "cancelled" or jobs.get(job.id).cancel:
        return jobs.finish(job.id, claim, "cancelled", error="cancelled")
    return jobs.finish(job.id, claim, "failed", error=ending["error"])


def _finish_late(job: Job, intake: Intake, ending: Mapping[str, Any]) -> Job:
    """Answer about a job that has ended: the same end said again, or a result that came after it was given up."""
    if ending["state"] == "done" and job.state != "done":
        _check_late(job)
        intake.save(ending["values"], ending["result"])
    return job


def _check_late(job: Job) -> None:
    if job.state != "failed":
        raise ClaimLostError(f"{job.id} has ended: {job.state}{f' ({job.error})' if job.error else ''}")


def _undelivered(worker: Worker) -> Job | None:
    """Return the job that the worker was given without hearing of it. One that it forgot is ended in words."""
    found = None
    for job in _held(worker):
        if job.process is None and found is None:
            _jobs().report(job.id, job.claim or "")
            found = job
        else:
            _give_up(job, "the worker asked for other work without ending this; start the job again")
    return found


def _next(worker: Worker, can: Callable[[Mapping[str, Any]], bool], wait_seconds: float) -> Job | None:
    jobs, stop = _jobs(), time.monotonic() + wait_seconds
    while True:
        # Only looked at first: a claim takes the database's write lock.
        if any(job.state == "queued" and can(job.needs) for job in jobs.list(live=True, limit=_MOST_JOBS)):
            job = jobs.claim(worker.id, can, alone=True)
            if job is not None:
                return job
        if time.monotonic() >= stop or context().stopping.wait(_LOOK_SECONDS):
            return None


def _held(worker: Worker) -> list[Job]:
    return [job for job in _jobs().list(live=True, limit=_MOST_JOBS) if job.place == worker.id]


def _give_up(job: Job, why: str) -> None:
    if job.process is None:
        _jobs().requeue(job.id, job.claim or "", "the worker ended before this began: queued again")
    else:
        end_in_words(context().store, _jobs(), job, "failed", why)


def _own(id: str) -> Job:
    """Return the job if the request names its claim and this worker holds it. Raises ClaimLostError."""
    job = _jobs().get(id)
    if job.place != _worker().id or not job.claim or request.headers.get("Hotbench-Claim") != job.claim:
        raise ClaimLostError(f"{job.id} is not this worker's")
    return job


def _input(job: Job, name: str) -> Entry:
    store, given = context().store, job.arguments
    if (job.kind, name) in (("optimize", "run"), ("compare", "before"), ("compare", "after")):
        return store.find(str(given[name]), ("run",))
    if job.kind == "export" and name in ("experiment", "candidate"):
        experiment = store.find(str(given["experiment"]), ("experiment",))
        if name == "experiment":
            return experiment
        parent = store.get(experiment.parent or "")
        if parent.kind != "candidate":
            raise RecordError(f"{experiment.id} compares two runs: it has no candidate to export")
        return parent
    raise RecordError(f"a job of kind {job.kind!r} has no {name!r} to send")


def _body() -> dict[str, Any]:
    data = request.get_json(silent=True)
    if not isinstance(data, dict):
        raise HotbenchError("the request holds no JSON object; upgrade the worker")
    return data


def _session() -> str:
    return request.headers.get("Hotbench-Session", "")[:64]


def _worker() -> Worker:
    return cast(Worker, g.worker)


def _workers() -> Workers:
    return Workers(context().store.database)


def _jobs() -> Jobs:
    return context().jobs
