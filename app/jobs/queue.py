"""The queue: jobs and what happened to them, as rows that every process of the store sees alike.

Who does jobs, here or on another machine, needs three calls:

    job = jobs.claim(place, can)                       # None: nothing to do; job.claim is the key to the others
    cancel = jobs.report(job.id, job.claim, notes)     # progress and log lines; True: somebody asked to stop
    jobs.finish(job.id, job.claim, "done", result)     # or "failed" / "cancelled" with an error in words

`report` and `finish` raise ClaimLostError once the job was ended or handed to another: stop then. A repeated
`finish` with the same state is harmless, so that an answer lost on the way can be asked for again.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import Connection, RowMapping, Select, delete, func, insert, select, update

from analyzer.record import to_plain
from app.jobs.errors import ClaimLostError, JobError
from app.jobs.job import LIVE, LOCAL, EventKind, Job, JobEvent, Note, State
from app.store import tables
from app.store.database import Database

Can = Callable[[Mapping[str, Any]], bool]
"""Whether a place can do a job with these needs."""

STALE_SECONDS = 30.0
"""A worker that has not been heard of for so long has vanished."""

LOG_LINES = 2000
_LINE_CHARACTERS = 2000
_STAGE_CHARACTERS = 200
_TITLE_CHARACTERS = 400
_JOBS = tables.jobs
_EVENTS = tables.job_events


def here(needs: Mapping[str, Any]) -> bool:
    """Return whether the server's own machine can do a job with these needs."""
    return needs.get("place", LOCAL) == LOCAL and "workload" not in needs


class Jobs:
    """Every change is one short transaction; `clock` gives epoch seconds."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self.submitted = threading.Event()
        """Set when this process submits a job, so that a runner need not wait for its next look."""

    def submit(
        self,
        kind: str,
        arguments: Mapping[str, Any],
        *,
        title: str,
        user: str,
        needs: Mapping[str, Any] | None = None,
        about: str | None = None,
    ) -> Job:
        """Return a new job at the end of the queue. The kinds and their arguments are in app.jobs.work."""
        job = Job(
            id=f"job-{uuid.uuid4().hex[:12]}",
            kind=kind,
            title=title[:_TITLE_CHARACTERS],
            arguments=to_plain(arguments),
            state="queued",
            user=user,
            created=self._now(),
            needs=to_plain(needs or {}),
            about=about,
        )
        with self._database.writing() as connection:
            connection.execute(
                insert(_JOBS).values({column.name: getattr(job, column.name) for column in _JOBS.columns})
            )
            self._tell(connection, job.id, "state", "queued")
        self.submitted.set()
        return job

    def get(self, id: str) -> Job:
        """Return the job as it is now. Raises JobError if there is none."""
        with self._database.reading() as connection:
            return _get(connection, id)

    def list(
        self, live: bool | None = None, about: str | None = None, limit: int = 100, user: str | None = None
    ) -> tuple[Job, ...]:
        """Return jobs, newest first: live or ended ones, about one value, of one user, where that is given."""
        query = select(_JOBS).order_by(_JOBS.c.created.desc()).limit(limit)
        if live is not None:
            query = query.where(_JOBS.c.state.in_(LIVE) if live else _JOBS.c.state.not_in(LIVE))
        if about is not None:
            query = query.where(_JOBS.c.about == about)
        if user is not None:
            query = query.where(_JOBS.c.user == user)
        return self._jobs(query)

    def claim_local(self) -> Job | None:
        """Return the oldest job that this machine can do, now running; None while another one runs here.

        One at a time over all servers of the store: what runs beside a measurement changes it.
        """
        return self.claim(LOCAL, here, alone=True)

    def claim(self, place: str, can: Can, alone: bool = False) -> Job | None:
        """Return the oldest queued job whose needs `can` meet, now running at `place` and nobody else's; or None.

        With `alone` there is none while the place does another.
        """
        with self._database.writing() as connection:
            running = select(_JOBS.c.id).where(_JOBS.c.state == "running", _JOBS.c.place == place)
            if alone and connection.execute(running).first() is not None:
                return None
            waiting = select(_JOBS.c.id, _JOBS.c.needs).where(_JOBS.c.state == "queued").order_by(_JOBS.c.created)
            for id, needs in connection.execute(waiting).all():
                if can(needs) and self._take(connection, id, place):
                    return _get(connection, id)
        return None

    def begin(self, id: str, claim: str, process: Mapping[str, Any]) -> Job:
        """Return the job, its process written down. Raises ClaimLostError: the process must end without a deed."""
        with self._database.writing() as connection:
            self._check_claim(connection, id, claim)
            self._change(connection, id, process=dict(process), heartbeat=self._clock())
            return _get(connection, id)

    def report(self, id: str, claim: str, notes: Sequence[Note] = (), heartbeat: bool = True) -> bool:
        """Write down what happened; return whether somebody asked to cancel. Raises ClaimLostError."""
        with self._database.writing() as connection:
            job = self._check_claim(connection, id, claim)
            room = LOG_LINES - _count(connection, id, "log") if any(note.kind == "log" for note in notes) else 0
            for note in notes:
                if note.kind == "log":
                    room -= 1
                    if room >= -1:
                        last = f"more than {LOG_LINES} lines: the rest is left out"
                        self._tell(connection, id, "log", note.text if room >= 0 else last)
                else:
                    self._tell(connection, id, note.kind, note.text, note.fraction)
            stages = [note for note in notes if note.kind == "progress"]
            if stages:
                fraction = min(max(stages[-1].fraction or 0.0, 0.0), 1.0)
                self._change(connection, id, stage=stages[-1].text[:_STAGE_CHARACTERS], fraction=fraction)
            if heartbeat:
                self._change(connection, id, heartbeat=self._clock())
            return job.cancel

    def finish(
        self, id: str, claim: str, state: State, result: Mapping[str, Any] | None = None, error: str = ""
    ) -> Job:
        """Return the ended job; "done" has a result, "failed" and "cancelled" an error in words. Raises ClaimLostError.

        Its progress lines are dropped, log and states stay.
        """
        with self._database.writing() as connection:
            job = _get(connection, id)
            if job.claim == claim and job.state == state:
                return job
            self._check_claim(connection, id, claim)
            words = {"failed": error or "it failed and did not say why", "cancelled": job.error or error or "cancelled"}
            self._end(connection, id, state, to_plain(result or {}) if state == "done" else None, words.get(state, ""))
            return _get(connection, id)

    def cancel(self, id: str, user: str) -> Job:
        """Return the job: a queued one has ended, a running one is asked to stop, an ended one is left alone."""
        words = f"cancelled by {user}"
        with self._database.writing() as connection:
            job = _get(connection, id)
            if job.state == "queued":
                self._end(connection, id, "cancelled", None, words)
            elif job.state == "running" and not job.cancel:
                self._change(connection, id, cancel=True, error=words)
                self._tell(connection, id, "log", words)
            return _get(connection, id)

    def requeue(self, id: str, claim: str, why: str) -> Job:
        """Return the job back in the queue: whoever held it had not begun. Raises ClaimLostError."""
        with self._database.writing() as connection:
            job = self._check_claim(connection, id, claim)
            if job.process is not None:
                raise JobError(f"{id} has begun already: it is not done a second time")
            if job.cancel:
                self._end(connection, id, "cancelled", None, job.error)
            else:
                self._change(connection, id, state="queued", place=None, claim=None, started=None, heartbeat=None)
                self._tell(connection, id, "log", why)
                self._tell(connection, id, "state", "queued")
            return _get(connection, id)

    def running_here(self) -> tuple[Job, ...]:
        """Return the local jobs that are said to run."""
        return self._jobs(select(_JOBS).where(_JOBS.c.state == "running", _JOBS.c.place == LOCAL))

    def vanished(self) -> tuple[Job, ...]:
        """Return the jobs of workers that have not been heard of for STALE_SECONDS."""
        limit = self._clock() - STALE_SECONDS
        return self._jobs(
            select(_JOBS).where(_JOBS.c.state == "running", _JOBS.c.place != LOCAL, _JOBS.c.heartbeat < limit)
        )

    def events(
        self, after: int = 0, job: str | None = None, limit: int = 5000, kinds: Sequence[EventKind] = ()
    ) -> tuple[JobEvent, ...]:
        """Return what happened after the event `after`, oldest first; of one job and of some kinds when given."""
        query = select(_EVENTS).where(_EVENTS.c.id > after).order_by(_EVENTS.c.id).limit(limit)
        if job is not None:
            query = query.where(_EVENTS.c.job == job)
        if kinds:
            query = query.where(_EVENTS.c.kind.in_(kinds))
        with self._database.reading() as connection:
            return tuple(JobEvent(**dict(row)) for row in connection.execute(query).mappings())

    def last_event(self) -> int:
        """Return the id of the latest event, 0 before the first."""
        with self._database.reading() as connection:
            return int(connection.execute(select(func.max(_EVENTS.c.id))).scalar() or 0)

    def changed(self, after: int, limit: int = 200) -> tuple[int, tuple[Job, ...]]:
        """Return the latest event's id, and the jobs as they are now that something happened to after `after`."""
        told = select(_EVENTS.c.job).where(_EVENTS.c.id > after).distinct()
        query = select(_JOBS).where(_JOBS.c.id.in_(told)).order_by(_JOBS.c.created.desc()).limit(limit)
        with self._database.reading() as connection:
            last = int(connection.execute(select(func.max(_EVENTS.c.id))).scalar() or 0)
            return last, tuple(_job(row) for row in connection.execute(query).mappings())

    def _jobs(self, query: Select[Any]) -> tuple[Job, ...]:
        with self._database.reading() as connection:
            return tuple(_job(row) for row in connection.execute(query).mappings())

    def _take(self, connection: Connection, id: str, place: str) -> bool:
        taken = connection.execute(
            update(_JOBS)
            # Looked at once more: another database than SQLite lets two readers come this far.
            .where(_JOBS.c.id == id, _JOBS.c.state == "queued")
            .values(state="running", place=place, claim=uuid.uuid4().hex, started=self._now(), heartbeat=self._clock())
        )
        if taken.rowcount != 1:
            return False
        self._tell(connection, id, "state", "running")
        return True

    def _end(self, connection: Connection, id: str, state: State, result: Mapping[str, Any] | None, error: str) -> None:
        ended: dict[str, Any] = {"state": state, "result": result, "error": error, "ended": self._now()}
        self._change(connection, id, **ended, **({"fraction": 1.0} if state == "done" else {}))
        connection.execute(delete(_EVENTS).where(_EVENTS.c.job == id, _EVENTS.c.kind == "progress"))
        self._tell(connection, id, "state", state)

    def _check_claim(self, connection: Connection, id: str, claim: str) -> Job:
        job = _get(connection, id)
        if job.state != "running":
            raise ClaimLostError(f"{id} has ended: {job.state}{f' ({job.error})' if job.error else ''}")
        if job.claim != claim:
            raise ClaimLostError(f"{id} was given to another")
        return job

    def _change(self, connection: Connection, id: str, **values: Any) -> None:
        connection.execute(update(_JOBS).where(_JOBS.c.id == id).values(values))

    def _tell(self, connection: Connection, id: str, kind: EventKind, text: str, fraction: float | None = None) -> None:
        row = {"job": id, "kind": kind, "created": self._now(), "fraction": fraction, "text": text[:_LINE_CHARACTERS]}
        connection.execute(insert(_EVENTS).values(row))

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="microseconds")


def _get(connection: Connection, id: str) -> Job:
    row = connection.execute(select(_JOBS).where(_JOBS.c.id == id)).mappings().first()
    if row is None:
        raise JobError(f"no job {id!r} in this store; the jobs page lists those there are")
    return _job(row)


def _job(row: RowMapping) -> Job:
    return Job(**cast("dict[str, Any]", dict(row)))


def _count(connection: Connection, id: str, kind: EventKind) -> int:
    query = select(func.count()).select_from(_EVENTS).where(_EVENTS.c.job == id, _EVENTS.c.kind == kind)
    return int(connection.execute(query).scalar() or 0)
