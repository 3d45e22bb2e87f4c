"""What the tests of jobs share."""

import sys
import time
from contextlib import contextmanager

from app.jobs.runner import Runner
from app.jobs.tree import process_record

COMMAND = (sys.executable, "-m", "tests.app.jobs.fakeprocess")
PATIENCE_SECONDS = 120.0


class Clock:
    """Epoch seconds that go on only when told to."""

    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


def until(condition, what):
    """Return the first true value of `condition`; the patience only keeps a broken test from hanging."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited in vain until {what}")


def submit(jobs, kind, folder=None, **about):
    return jobs.submit(kind, {"folder": str(folder)} if folder else {}, title=f"a {kind}", user="ada", **about)


def ended(jobs, id):
    """Return the job once it has ended."""
    until(lambda: not jobs.get(id).live, f"{id} has ended; it is {jobs.get(id)}")
    return jobs.get(id)


def gone(pid):
    """Return whether that process lives no more; a zombie does not."""
    return not process_record(pid)["started"]


@contextmanager
def running(store, jobs, **settings):
    """Yield a runner of the fake kinds; its job is ended at the end."""
    runner = Runner(store, jobs, COMMAND, **settings)
    runner.start()
    try:
        yield runner
    finally:
        runner.stop()


def log(jobs, id):
    return [event.text for event in jobs.events(job=id, kinds=("log",))]
