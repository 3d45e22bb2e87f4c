"""The thread that tells the server that this worker lives, and how its job goes, whatever the work is doing."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from analyzer.errors import HotbenchError
from app.worker import machine
from app.worker.client import TIMEOUT_SECONDS, Assignment, Client
from app.worker.errors import LostJobError, RefusedError, UnreachableError

NEWS_SECONDS = 0.5
BUSY_SECONDS = 3.0
IDLE_SECONDS = 10.0
_BATCH = 200
_KEPT_LINES = 2000
_LINE_CHARACTERS = 2000

OnStop = Callable[[HotbenchError | None], None]
"""Called once for a job that is to stop: with None when somebody cancelled it, else with why it is lost."""


class Relay:
    """`progress` and `echo` only note. Use it as a context manager; `hold` and `release` say which job is told of."""

    def __init__(self, client: Client, on_stop: OnStop) -> None:
        self._client, self._on_stop = client, on_stop
        self._lock, self._telling = threading.Lock(), threading.Lock()
        self._job: Assignment | None = None
        self._lines: deque[str] = deque()
        self._stage: dict[str, Any] | None = None
        self._dropped = 0
        self._told = False
        self._news, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._news.set()
        # Not waited for long: it may hang in a request to a server that is gone.
        self._thread.join(1.0)

    def hold(self, job: Assignment) -> None:
        """Tell of this job from now on."""
        with self._lock:
            self._job, self._stage, self._told, self._dropped = job, None, False, 0
            self._lines.clear()

    def release(self) -> None:
        """Tell of no job any more."""
        with self._lock:
            self._job, self._stage = None, None
            self._lines.clear()

    def rest(self) -> list[dict[str, Any]]:
        """Return what was not told yet, for the job's last word."""
        # What is on the way arrives first, or comes back.
        waited = self._telling.acquire(timeout=TIMEOUT_SECONDS)
        try:
            with self._lock:
                return self._take(_KEPT_LINES)
        finally:
            if waited:
                self._telling.release()

    def progress(self, stage: str, fraction: float) -> None:
        """Note where the work is; only the latest is told."""
        with self._lock:
            self._stage = {"kind": "progress", "text": stage, "fraction": fraction}
        self._news.set()

    def echo(self, line: str) -> None:
        """Note a line of the log. While the server is away the oldest go, and their number is told."""
        with self._lock:
            if len(self._lines) >= _KEPT_LINES:
                self._lines.popleft()
                self._dropped += 1
            self._lines.append(line[:_LINE_CHARACTERS])
        self._news.set()

    def _run(self) -> None:
        while not self._over.is_set():
            with self._telling:
                self._tell()
            self._over.wait(NEWS_SECONDS)
            # Quiet while nothing happens: what runs beside a measurement changes it.
            self._news.wait((BUSY_SECONDS if self._job is not None else IDLE_SECONDS) - NEWS_SECONDS)

    def _tell(self) -> None:
        self._news.clear()
        with self._lock:
            job, notes = self._job, self._take(_BATCH) if self._job is not None else []
        try:
            if self._client.report(machine.load(), job, notes) and job is not None:
                self._stop(job, None)
        except UnreachableError:
            # The main thread says so in words when it meets it; a job goes on meanwhile.
            self._put_back(job, notes)
        except (LostJobError, RefusedError) as error:
            # A single report that is not liked ends nothing; the loop meets what is wrong for good.
            if job is not None and (isinstance(error, LostJobError) or error.final):
                self._stop(job, error)
        if self._lines:
            self._news.set()

    def _take(self, most: int) -> list[dict[str, Any]]:
        lines = [self._lines.popleft() for _ in range(min(most, len(self._lines)))]
        if self._dropped:
            lines.insert(0, f"{self._dropped} lines were lost while the server could not be reached")
            self._dropped = 0
        notes = [{"kind": "log", "text": line} for line in lines]
        stage, self._stage = self._stage, None
        return [*notes, *([stage] if stage is not None else [])]

    def _put_back(self, job: Assignment | None, notes: list[dict[str, Any]]) -> None:
        with self._lock:
            if job is not self._job:
                return
            for note in reversed(notes):
                if note["kind"] == "log":
                    self._lines.appendleft(str(note["text"]))
                elif self._stage is None:
                    self._stage = note
            while len(self._lines) > _KEPT_LINES:
                self._lines.popleft()
                self._dropped += 1

    def _stop(self, job: Assignment, why: HotbenchError | None) -> None:
        with self._lock:
            if self._told or job is not self._job:
                return
            self._told = True
        self._on_stop(why)
