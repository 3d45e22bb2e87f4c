"""Background threads that copy: one job after the other, in the order in which they were issued."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable

from optimizers.swap.errors import SwapError

# What the process may use, as it was started: a caller that stays on one core later leaves the others to the copies.
_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()


class Ticket:
    """One job's end. `wait` returns when it is done; `error`: what it raised, if it did."""

    __slots__ = ("_done", "_process", "error")

    def __init__(self) -> None:
        self._done = threading.Event()
        self._process = os.getpid()
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        """Return whether the job is over."""
        return self._done.is_set()

    def wait(self) -> None:
        """Wait until the job is over. Raises SwapError in a forked process, where nobody does it."""
        if not self._done.is_set():
            check_process(self._process)
        self._done.wait()

    def finish(self, error: Exception | None = None) -> None:
        """Note that the job is over, by the thread that did it."""
        self.error = error
        self._done.set()


class Lane:
    """A thread that does jobs in the order of issue; it starts with the first one. `close` ends it after the last."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._jobs: queue.SimpleQueue[tuple[Callable[[], None], Ticket] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()

    def issue(self, job: Callable[[], None]) -> Ticket:
        """Return the ticket of a job that is done in the background."""
        check_process(self._process)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()
        ticket = Ticket()
        self._jobs.put((job, ticket))
        return ticket

    def close(self) -> None:
        """Finish what was issued and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None and os.getpid() == self._process:
            self._jobs.put(None)
            thread.join()

    def _run(self) -> None:
        if _CORES:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, _CORES)
        while (item := self._jobs.get()) is not None:
            job, ticket = item
            # The job holds the memory that it copies: it must have let go of it before the ticket says so.
            del item
            error = _outcome(job)
            del job
            ticket.finish(error)


def check_process(process: int) -> None:
    """Raise SwapError in another process: a fork takes no threads along, and the file is its parent's."""
    if os.getpid() != process:
        raise SwapError("the process was forked while tensors were swapped; apply the plan in the child itself")


def _outcome(job: Callable[[], None]) -> Exception | None:
    try:
        job()
    except Exception as error:
        # Whatever it is, the thread that waits must hear of it; the traceback would hold the memory.
        return error.with_traceback(None)
    return None
