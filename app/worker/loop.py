"""The worker: introduces itself, takes one job after the other, hands each one's result over, and never loses one."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from analyzer.errors import HotbenchError, WorkloadError
from analyzer.record import read_folder
from app.fault import keep_traceback
from app.worker import machine
from app.worker.client import Assignment, Client
from app.worker.duties import Done, Duty
from app.worker.errors import LostJobError, RefusedError, UnreachableError
from app.worker.relay import Relay
from app.worker.transfer import MAX_UNPACKED_BYTES, pack, unpack
from app.workloads import find_workloads

WAIT_SECONDS = 20.0
LAST_WORD_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_MOST_WORKLOADS = 500
T = TypeVar("T")
Say = Callable[[str], None]


class _Stop(BaseException):
    """The job in hand is to stop, not the worker. `why` is None when somebody cancelled it."""

    def __init__(self, why: HotbenchError | None) -> None:
        super().__init__()
        self.why = why


@dataclass(frozen=True)
class WorkerSettings:
    """How a worker was started: the server's address, the token, the folders whose workloads it offers."""

    server: str
    token: str
    workloads: tuple[Path, ...]
    host: str
    ca: Path | None = None


class Worker:
    """Call `run` once, in the process's main thread; it ends with an exception: Ctrl-C, or why it cannot go on."""

    def __init__(self, settings: WorkerSettings, say: Say, sleep: Callable[[float], None] = time.sleep) -> None:
        for folder in settings.workloads:
            if not folder.is_dir():
                raise WorkloadError(f"--workloads {str(folder)!r} is no folder; give the one with your workload files")
        self._settings, self._say, self._sleep = settings, say, sleep
        self._client = Client(settings.server, settings.token, uuid.uuid4().hex, settings.ca)
        self._relay = Relay(self._client, self._ask_to_stop)
        self._why: HotbenchError | None = None
        self._asked, self._stoppable = False, False
        self.done = 0

    def run(self) -> None:
        """Work until the process is interrupted, the token is revoked or another process takes it over."""
        if self._client.in_the_clear:
            self._say(f"warning: {self._client.url} is not encrypted: others on the network can read the token")
        about = machine.describe(self._settings.host)
        welcome = self._persist(lambda: self._client.hello({**about, "workloads": self._offered()}))
        offered = sum(1 for item in self._offered() if not item["problem"])
        self._say(
            f"{welcome.get('name', 'worker')} serves {self._client.url} with {offered} workloads "
            f"on {about['device']['name']}; Ctrl-C stops it"
        )
        before = signal.signal(signal.SIGUSR1, self._on_signal)
        try:
            with self._relay:
                while True:
                    job = self._persist(lambda: self._client.claim(self._offered(), WAIT_SECONDS))
                    if job is not None:
                        self._serve(job)
        finally:
            signal.signal(signal.SIGUSR1, before)

    def _serve(self, job: Assignment) -> None:
        """Do one job and hand it over; whatever happens, the server is told how it ended."""
        self._say(f"{job.id}: {job.title}")
        try:
            with tempfile.TemporaryDirectory(prefix="hotbench-worker-") as place:
                self._asked = False
                self._relay.hold(job)
                self._persist(lambda: self._client.begin(job))
                ending, done = self._do(job, Path(place))
                # Still told of while it travels: the server would take it for vanished.
                self._relay.progress("hand the result over", 0.96)
                sent: set[str] = set()
                ending["notes"] = self._relay.rest()
                words = self._persist(lambda: self._hand_over(job, ending, done, Path(place), sent))
                self._say(f"{job.id}: {words}")
                self.done += 1
        except LostJobError as error:
            self._say(f"{job.id}: not wanted any more: {error}")
        except BaseException:
            self._last_word(job)
            raise
        finally:
            self._relay.release()

    def _do(self, job: Assignment, place: Path) -> tuple[dict[str, Any], Done]:
        """Return the job's ending and what it gave."""
        duty = Duty(
            job,
            self._settings.workloads,
            place,
            lambda name, folder: self._persist(lambda: self._fetch(job, name, folder)),
            self._relay.progress,
            self._relay.echo,
        )
        try:
            with self._may_be_stopped():
                done = duty.do()
            return {"state": "done", "result": done.result, "error": ""}, done
        except _Stop as stop:
            if isinstance(stop.why, LostJobError | RefusedError):
                raise stop.why from None
            return {"state": "cancelled", "error": ""}, Done({})
        except (LostJobError, RefusedError):
            raise
        except HotbenchError as error:
            return {"state": "failed", "error": str(error)}, Done({})
        except OSError as error:
            return {"state": "failed", "error": f"the worker cannot do it: {error.strerror or error}"}, Done({})
        except Exception as error:
            # A mistake of ours in one job: the worker lives on for the next.
            where = keep_traceback("".join(traceback.format_exception(error)))
            self._say(f"{job.id}: unexpected {type(error).__name__}; {where}")
            words = " ".join(str(error).split())[:300]
            return {"state": "failed", "error": f"unexpected {type(error).__name__} on the worker: {words}"}, Done({})

    def _hand_over(self, job: Assignment, ending: Mapping[str, Any], done: Done, place: Path, sent: set[str]) -> str:
        """Send the values and then the ending; return in words what became of it. Done twice it changes nothing."""
        try:
            for kind, id, folder in done.values:
                if id in sent:
                    continue
                archive = place / "value.zip"
                with archive.open("wb") as stream:
                    pack(folder, stream)
                self._client.put(job, kind, id, archive)
                sent.add(id)
            values = [{"kind": kind, "id": id} for kind, id, _ in done.values]
            answer = self._client.finish(job, {**ending, "values": values})
        except RefusedError as error:
            if error.final:
                raise
            failed = {"state": "failed", "error": f"the server did not take the result: {error}", "values": []}
            answer = self._client.finish(job, failed)
        return " ".join(filter(None, (str(answer.get("state", "")), str(answer.get("error", "")))))

    def _fetch(self, job: Assignment, name: str, folder: Path) -> None:
        archive = folder.with_name(f"{folder.name}.zip")
        archive.parent.mkdir(parents=True, exist_ok=True)
        kind = self._client.get(job, name, archive)
        with archive.open("rb") as stream:
            unpack(stream, folder, MAX_UNPACKED_BYTES)
        archive.unlink()
        read_folder(folder, kind)

    def _last_word(self, job: Assignment) -> None:
        """Give the job back as failed, in words, as far as the server can be reached within a moment."""
        words = "the worker was stopped while it ran; start it again"
        with contextlib.suppress(HotbenchError):
            self._client.finish(job, {"state": "failed", "error": words, "values": []}, LAST_WORD_SECONDS)
            self._say(f"{job.id}: given back as failed")

    def _persist(self, ask: Callable[[], T]) -> T:
        """Return what the server answers, however long it is away."""
        pause, away = _FIRST_PAUSE_SECONDS, False
        while True:
            try:
                answer = ask()
                if away:
                    self._say("the server is back")
                return answer
            except UnreachableError as error:
                if not away:
                    self._say(f"{error}; trying again until it does")
                away = True
            self._sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _offered(self) -> list[dict[str, str]]:
        found = [item for folder in self._settings.workloads for item in find_workloads(folder)]
        return [item.as_dict() for item in found[:_MOST_WORKLOADS]]

    def _ask_to_stop(self, why: HotbenchError | None) -> None:
        """Called by the relay's thread: the main thread, which waits for the work, is woken by a signal."""
        self._why, self._asked = why, True
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._stoppable:
            self._stoppable = False
            raise _Stop(self._why)

    @contextlib.contextmanager
    def _may_be_stopped(self) -> Iterator[None]:
        self._stoppable = True
        try:
            # It may have been asked before there was anything to stop.
            if self._asked:
                self._stoppable = False
                raise _Stop(self._why)
            yield
        finally:
            self._stoppable = False
