"""The processes of a launch's ranks: started, told to step, and ended together, whatever happens to one of them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from analyzer.launch import THREAD_VARIABLES
from optimizers.placement.baselines.backend import BackendError

WORKER = "optimizers.placement.rank_process"
SECRET = "HOTBENCH_SECRET"
GRACE_SECONDS = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class Meeting:
    """Where ranks find each other, and what proves that they belong together."""

    host: str
    port: int
    secret: str = dataclasses.field(default_factory=lambda: secrets.token_hex(16), repr=False)


class RankProcess:
    """One rank's process. Its requests and replies are lines of JSON."""

    def __init__(
        self,
        rank: int,
        size: int,
        meeting: Meeting,
        *,
        threads: int,
        prefix: Sequence[str],
        variables: Mapping[str, str],
        module: str = WORKER,
    ) -> None:
        self.rank = rank
        self._unread = b""
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by end)
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=rank_environment(rank, size, meeting, threads, variables),
        )

    def send(self, request: str, **arguments: Any) -> None:
        """Write one request line; a process that is gone is noticed when its reply is awaited."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self.process.stdin.write((json.dumps({"request": request, **arguments}) + "\n").encode())
            self.process.stdin.flush()

    def read(self) -> dict[str, Any] | None:
        """Return a reply if a whole one can be read now. Raises BackendError with the rank's own words."""
        assert self.process.stdout is not None
        read = os.read(self.process.stdout.fileno(), 1 << 16)
        if not read:
            raise BackendError(f"rank {self.rank} {self._death()}")
        self._unread += read
        if b"\n" not in self._unread:
            return None
        line, _, self._unread = self._unread.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise BackendError(str(reply["error"]))
        return reply

    def _death(self) -> str:
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "closed its pipe; its code must leave file descriptors alone"
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{cause}{': ' + lines[-1][:200] if lines and code > 0 else ''}; start the training again"

    def end(self) -> None:
        """Kill the process and wait for it."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self.process.wait()
        self._log.close()


def rank_environment(
    rank: int, size: int, meeting: Meeting, threads: int, variables: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables of a rank's process: those that torchrun sets, the secret, threads; `variables` win."""
    found = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    found["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109 (a text)
    found.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(size),
        MASTER_ADDR=meeting.host,
        MASTER_PORT=str(meeting.port),
        PYTHONUNBUFFERED="1",
        PYTHONHASHSEED=os.environ.get("PYTHONHASHSEED", "0"),
    )
    return {**found, SECRET: meeting.secret, "TORCHELASTIC_USE_AGENT_STORE": "True", **variables}


class Workers:
    """Several ranks' processes. Use it as a context manager: leaving it ends all of them.

    A rank that fails or dies ends the others' wait at once: `replies` raises its reason.
    """

    def __init__(self, processes: Iterable[RankProcess]) -> None:
        self._processes = list(processes)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Return the ids of the processes."""
        return tuple(item.process.pid for item in self._processes)

    def send(self, request: str, **arguments: Any) -> None:
        """Send the same request to every rank."""
        for item in self._processes:
            item.send(request, **arguments)

    def replies(self, timeout_seconds: float) -> list[dict[str, Any]]:
        """Return every rank's reply to the last request, in their order. Raises BackendError, naming the rank."""
        found: dict[int, dict[str, Any]] = {}
        stop = time.monotonic() + timeout_seconds
        with selectors.DefaultSelector() as selector:
            for item in self._processes:
                assert item.process.stdout is not None
                selector.register(item.process.stdout, selectors.EVENT_READ, item)
            while len(found) < len(self._processes):
                ready = selector.select(max(stop - time.monotonic(), 0.0))
                if not ready:
                    late = sorted({item.rank for item in self._processes} - set(found))
                    raise BackendError(
                        f"no answer of rank {', '.join(map(str, late))} for {timeout_seconds:g} s; look for a deadlock"
                    )
                self._collect([key.data for key, _ in ready], found)
        return [found[item.rank] for item in self._processes]

    def ask(self, request: str, timeout_seconds: float, **arguments: Any) -> list[dict[str, Any]]:
        """Send a request to every rank and return the replies."""
        self.send(request, **arguments)
        return self.replies(timeout_seconds)

    def ask_one(self, position: int, request: str, timeout_seconds: float, **arguments: Any) -> dict[str, Any]:
        """Send a request to one rank and return its reply."""
        # Not closed: the process stays ours.
        return Workers(self._processes[position : position + 1]).ask(request, timeout_seconds, **arguments)[0]

    def close(self) -> None:
        """Ask the ranks to leave in peace, then end those that have not; harmless the second time."""
        processes, self._processes = self._processes, []
        for item in processes:
            item.send("quit")
        stop = time.monotonic() + GRACE_SECONDS
        for item in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                item.process.wait(timeout=max(stop - time.monotonic(), 0.0))
        for item in processes:
            item.end()

    def _collect(self, ready: Sequence[RankProcess], found: dict[int, dict[str, Any]]) -> None:
        """Add what can be read. Of several failures the first cause is told: a death before what peers say of it."""
        failures: list[BackendError] = []
        for item in ready:
            try:
                reply = item.read()
            except BackendError as error:
                failures.append(error)
                continue
            if reply is not None:
                found[item.rank] = reply
        if failures:
            raise self._root_cause(failures)

    def _root_cause(self, failures: list[BackendError]) -> BackendError:
        """Return the death of a rank if there is one: what the others say then is but its consequence."""
        for item in self._processes:
            code = item.process.poll()
            if code is not None and code != 0:
                with contextlib.suppress(OSError):
                    try:
                        while item.read() is None:
                            pass
                    except BackendError as error:
                        return error
        return failures[0]
