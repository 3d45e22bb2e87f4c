"""The process of one local job: `python -m app.jobs.process [--store PLACE] JOB CLAIM` (default: HOTBENCH_STORE).

It does the work, tells where it is, and writes its own end. Exit code 0 means that the end is written, whatever it is.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from analyzer.errors import HotbenchError
from app.fault import keep_traceback
from app.jobs.ending import clear_up, end_in_words
from app.jobs.errors import ClaimLostError, JobError
from app.jobs.job import Job, State
from app.jobs.output import CapturedOutput
from app.jobs.queue import Jobs
from app.jobs.recording import RecordingStore
from app.jobs.reporter import Reporter
from app.jobs.tree import process_record
from app.jobs.work import KINDS, Kind, settle
from app.store import Store, StoreError, open_store

DONE, NOT_MINE, FAILED = 0, 3, 2
_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)


class _Terminated(BaseException):
    """SIGTERM arrived: unwind, so that children are ended and files removed."""


class _Terminator:
    """Turns the first SIGTERM into _Terminated while it is armed; later ones would disturb the unwinding."""

    def __init__(self) -> None:
        self.armed = True
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, _number: int, _frame: object) -> None:
        if self.armed:
            self.armed = False
            raise _Terminated

    def stop(self, _asked: bool) -> None:
        """End this process as a signal would; callable from another thread."""
        os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: Sequence[str] | None = None, kinds: Mapping[str, Kind] = KINDS) -> int:
    """Do one job; return DONE when its end is written, NOT_MINE when somebody else holds it."""
    options = _parse(arguments)
    # Where native code crashed is told in the file that the runner gave for stderr.
    faulthandler.enable(file=_own_error_stream())
    terminator = _Terminator()
    try:
        with open_store(options.store) as store:
            jobs = Jobs(store.database)
            job = jobs.begin(options.job, options.claim, process_record(os.getpid()))
            _do(store, jobs, job, kinds, terminator)
        return DONE
    except ClaimLostError:
        return NOT_MINE
    except _Terminated:
        return FAILED
    except HotbenchError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return FAILED


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app.jobs.process")
    parser.add_argument("--store")
    parser.add_argument("job")
    parser.add_argument("claim")
    return parser.parse_args(arguments)


def _own_error_stream() -> IO[str]:
    return os.fdopen(os.dup(2), "w")


def _do(store: Store, jobs: Jobs, job: Job, kinds: Mapping[str, Kind], terminator: _Terminator) -> None:
    claim = job.claim or ""
    with Reporter(jobs, job.id, claim, terminator.stop) as reporter:
        try:
            if job.kind not in kinds:
                raise JobError(f"no job kind {job.kind!r}; known: {', '.join(kinds)}")
            with CapturedOutput(reporter.echo):
                recording = RecordingStore(store, reporter.value)
                result = kinds[job.kind](recording, job.arguments, reporter.progress, reporter.echo)
            # From here on it is done: a cancel comes too late.
            terminator.armed = False
            _settle(store, job, result, reporter.echo)
        except ClaimLostError:
            terminator.armed = False
            clear_up(store, jobs, job)
            raise
        except BaseException as error:
            terminator.armed = False
            reporter.close()
            state, words = _why(error, jobs.get(job.id))
            _persist(lambda: end_in_words(store, jobs, job, state, words))
            return
        reporter.close()
        _persist(lambda: jobs.finish(job.id, claim, "done", result))


def _settle(store: Store, job: Job, result: Mapping[str, Any], echo: Callable[[str], None]) -> None:
    try:
        settle(store, job, result)
    except HotbenchError as error:
        # The experiment is saved and told of: only the mark is missing, and a person can set it.
        echo(f"its experiment could not be marked as kept: {error}")


def _why(error: BaseException, job: Job) -> tuple[State, str]:
    """Return the state and the words that the job ends with."""
    if job.cancel:
        return "cancelled", job.error
    if isinstance(error, HotbenchError):
        return "failed", str(error)
    if isinstance(error, _Terminated | KeyboardInterrupt):
        return "failed", "it was stopped with the server, or somebody ended its process; start it again"
    text = " ".join(str(error).split())[:300]
    where = keep_traceback("".join(traceback.format_exception(error)))
    return "failed", f"unexpected {type(error).__name__}: {text}; {where}"


def _persist(write: Callable[[], object]) -> None:
    """Call `write` until the store takes it: a database that is locked for long must not lose a job's end."""
    for pause in _PAUSES_SECONDS:
        try:
            write()
            return
        except StoreError:
            time.sleep(pause)
    write()


if __name__ == "__main__":
    raise SystemExit(main())
