"""The server's thread that has local jobs done, one at a time, and sees to it that every job comes to an end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from app.fault import keep_traceback
from app.jobs.death import last_lines, words_of_death
from app.jobs.ending import end_in_words
from app.jobs.errors import JobError
from app.jobs.job import Job, Note, State
from app.jobs.queue import STALE_SECONDS, Jobs
from app.jobs.tree import MARK, alive, ask_to_end, kill_tree, mark_of, process_record
from app.store import Store, StoreError
from app.store.location import VARIABLE

POLL_SECONDS = 0.25
GRACE_SECONDS = 8.0
"""Between the request to end and the kill: a job's own child gets three seconds of it."""

_VANISHED_EVERY_SECONDS = 5.0
_COMMAND = (sys.executable, "-m", "app.jobs.process")


@dataclass
class _Watched:
    """A job whose process runs. `child` is None for one that an earlier server started."""

    job: Job
    process: dict[str, Any]
    child: subprocess.Popen[bytes] | None = None
    errors: IO[bytes] | None = None
    asked_at: float | None = None

    @property
    def running(self) -> bool:
        """Return whether its process lives."""
        return self.child.poll() is None if self.child is not None else alive(self.process)


class Runner:
    """`start` and `stop` it with the server."""

    def __init__(
        self,
        store: Store,
        jobs: Jobs,
        command: Sequence[str] = _COMMAND,
        grace_seconds: float = GRACE_SECONDS,
        patience_seconds: float = STALE_SECONDS,
    ) -> None:
        self._store, self._jobs = store, jobs
        self._command = tuple(command)
        self._grace_seconds = grace_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="job runner", daemon=True)
        # A worker that no server listened to gets so much time to be heard again.
        self._next_look = time.monotonic() + patience_seconds

    def start(self) -> None:
        """Begin: first come the jobs that an earlier server left."""
        self._thread.start()

    def stop(self) -> None:
        """End the job that runs here, in words, and the thread; queued jobs wait for the next server."""
        self._stopping.set()
        self._jobs.submitted.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if not self._step():
                    self._jobs.submitted.wait(2 * POLL_SECONDS)
                    self._jobs.submitted.clear()
            except (StoreError, JobError):
                # A database that is locked or full for a while: look again, the jobs' rows tell where we are.
                self._stopping.wait(4 * POLL_SECONDS)
            except Exception as error:  # our own mistake must not leave the jobs without anybody who ends them
                where = keep_traceback("".join(traceback.format_exception(error)))
                print(f"hotbench: error: unexpected {type(error).__name__}: {error}; {where}", file=sys.stderr)
                self._stopping.wait(4 * POLL_SECONDS)

    def _step(self) -> bool:
        """Do what is to be done now; return whether there was anything."""
        self._end_vanished()
        for job in self._jobs.running_here():
            self._take_over(job)
        claimed = self._jobs.claim_local()
        if claimed is None:
            return False
        try:
            begun = self._begin(claimed)
        except OSError as error:
            words = f"its process could not be started: {error.strerror or error}"
            end_in_words(self._store, self._jobs, claimed, "failed", words)
        else:
            self._watch(begun)
        return True

    def _take_over(self, job: Job) -> None:
        """See a job to its end that another server claimed: an earlier one, or one beside this."""
        if job.process is None:
            self._return_to_queue(job)
        elif alive(job.process):
            self._watch(_Watched(job, dict(job.process)))
        else:
            kill_tree(None, mark_of(job.id, job.claim or ""))
            gone = "the server was restarted and the job's process is gone; start it again"
            end_in_words(self._store, self._jobs, job, "failed", gone)

    def _return_to_queue(self, job: Job) -> None:
        if time.time() - (job.heartbeat or 0.0) < STALE_SECONDS:
            # Its process may be about to begin.
            self._stopping.wait(POLL_SECONDS)
            return
        self._jobs.requeue(job.id, job.claim or "", "the server ended before this began: queued again")

    def _begin(self, job: Job) -> _Watched:
        claim = job.claim or ""
        errors = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            child = subprocess.Popen(
                [*self._command, job.id, claim],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=self._environment(mark_of(job.id, claim)),
                # It outlives a server that is killed, so that its restart costs no measurement.
                start_new_session=True,
            )
        except BaseException:
            errors.close()
            raise
        return _Watched(job, process_record(child.pid), child, errors)

    def _environment(self, mark: str) -> dict[str, str]:
        # The store's URL may hold a password, which everybody could read among the process's arguments.
        place = self._store.database.location.place
        return {**os.environ, VARIABLE: place, MARK: mark, "PYTHONUNBUFFERED": "1"}

    def _watch(self, watched: _Watched) -> None:
        """Wait for the end of a job's process, and make sure that the job has one too."""
        job = watched.job
        while watched.running:
            # Not `_stopping.wait`: once that is set it waits no more.
            time.sleep(POLL_SECONDS)
            if self._stopping.is_set() and watched.child is None:
                return
            if self._stopping.is_set() or self._is_cancelled(job):
                self._press(watched)
            self._end_vanished()
        kill_tree(None, mark_of(job.id, job.claim or ""))
        self._see_off(watched)

    def _is_cancelled(self, job: Job) -> bool:
        try:
            return self._jobs.get(job.id).cancel
        except StoreError:
            # Busy for long: the process itself looks as well, and we look again.
            return False

    def _see_off(self, watched: _Watched) -> None:
        """Write the end that the process did not write."""
        lines = last_lines(watched.errors)
        job = self._jobs.get(watched.job.id)
        if job.live and job.claim == watched.job.claim:
            if lines:
                self._jobs.report(job.id, job.claim or "", [Note("log", line) for line in lines])
            end_in_words(self._store, self._jobs, job, *self._how_it_ended(job, watched, lines))
        if watched.errors is not None:
            watched.errors.close()

    def _how_it_ended(self, job: Job, watched: _Watched, lines: Sequence[str]) -> tuple[State, str]:
        if job.cancel:
            return "cancelled", job.error
        if self._stopping.is_set():
            return "failed", "the server was stopped while this ran; start it again"
        return "failed", words_of_death(watched.child.returncode if watched.child else None, lines)

    def _press(self, watched: _Watched) -> None:
        """Ask the process to end; once the grace is over, kill it with all that it started."""
        now = time.monotonic()
        if watched.asked_at is None:
            watched.asked_at = now
            ask_to_end(watched.process)
        elif now - watched.asked_at > self._grace_seconds:
            kill_tree(watched.process, mark_of(watched.job.id, watched.job.claim or ""))

    def _end_vanished(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _VANISHED_EVERY_SECONDS
        with suppress(StoreError):
            self._fail_vanished()

    def _fail_vanished(self) -> None:
        for job in self._jobs.vanished():
            silent = f"worker {job.place} has not been heard of for {STALE_SECONDS:.0f} seconds"
            words = f"{silent}; see whether it runs, then start the job again"
            end_in_words(self._store, self._jobs, job, "failed", words)
