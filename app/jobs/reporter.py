"""What a job says of itself, written to its row: not too often, nothing of the log lost, and the last word always."""

from __future__ import annotations

import threading
from collections.abc import Callable

from app.jobs.errors import ClaimLostError
from app.jobs.job import Note
from app.jobs.queue import Jobs
from app.store import StoreError

FLUSH_SECONDS = 0.2
HEARTBEAT_SECONDS = 2.0


class Reporter:
    """`progress` and `echo` only note; a thread of its own writes, so that the work never waits for the database.

    `on_stop` is called once, on that thread: with True when somebody asked to cancel, with False when the claim
    is lost. Use it as a context manager: leaving it writes what is left.
    """

    def __init__(
        self,
        jobs: Jobs,
        id: str,
        claim: str,
        on_stop: Callable[[bool], None],
        flush_seconds: float = FLUSH_SECONDS,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._jobs, self._id, self._claim = jobs, id, claim
        self._on_stop: Callable[[bool], None] | None = on_stop
        self._flush_seconds, self._heartbeat_seconds = flush_seconds, heartbeat_seconds
        self._lock = threading.Lock()
        self._waiting: list[Note] = []
        self._stage: Note | None = None
        self._stage_name = ""
        self._news = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="job reporter", daemon=True)

    def __enter__(self) -> Reporter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is left and fall silent; harmless the second time."""
        self._on_stop = None
        if not self._over.is_set():
            self._over.set()
            self._news.set()
            self._thread.join()
            self._flush()

    def progress(self, stage: str, fraction: float) -> None:
        """Note where the work is: only the latest is told, and each new stage is a line of the log."""
        with self._lock:
            if self._stage_name != stage:
                self._stage_name = stage
                self._waiting.append(Note("log", stage))
            self._stage = Note("progress", stage, fraction)
        self._news.set()

    def echo(self, line: str) -> None:
        """Note a line of the log."""
        with self._lock:
            self._waiting.append(Note("log", line))
        self._news.set()

    def value(self, id: str) -> None:
        """Write down at once which value is about to be saved: whoever finds the job dead can look for it."""
        self._jobs.report(self._id, self._claim, [Note("value", id)])

    def _run(self) -> None:
        while not self._over.is_set():
            self._flush()
            # Quiet while nothing happens: what runs beside a measurement changes it.
            if not self._over.wait(self._flush_seconds):
                self._news.wait(max(self._heartbeat_seconds - self._flush_seconds, 0.0))

    def _flush(self) -> None:
        self._news.clear()
        with self._lock:
            notes = [*self._waiting, *([self._stage] if self._stage else [])]
            self._waiting, self._stage = [], None
        try:
            if self._jobs.report(self._id, self._claim, notes):
                self._stop(True)
        except ClaimLostError:
            self._stop(False)
        except StoreError:
            # A database that is locked for long: told later, in the old order.
            self._put_back(notes)

    def _put_back(self, notes: list[Note]) -> None:
        with self._lock:
            stages = [note for note in notes if note.kind == "progress"]
            self._waiting = [note for note in notes if note.kind != "progress"] + self._waiting
            self._stage = self._stage or (stages[0] if stages else None)

    def _stop(self, asked: bool) -> None:
        on_stop, self._on_stop = self._on_stop, None
        if on_stop is not None:
            on_stop(asked)
