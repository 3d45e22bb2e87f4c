"""The parent's side of a fusion_worker: started, asked for samples, ended with all that it started."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, Any

from analyzer.errors import HotbenchError


class WorkerProcess:
    """One peer on one case. Use it in a `with` block: at its end the process and its children are gone."""

    def __init__(
        self,
        case: str,
        peer: str,
        threads: int,
        block_seconds: float,
        variables: Mapping[str, str] | None = None,
        module: str = "benchmarks.fusion_worker",
        more: Sequence[str] = (),
    ) -> None:
        self._name = f"{peer} on {case}"
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by end)
        self._unread, self._ended = b"", False
        command = [sys.executable, "-m", module, case, peer, str(threads), str(block_seconds), *more]
        # OMP_NUM_THREADS: what numba, MKL and Inductor's code ask
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **(variables or {})}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            start_new_session=True,
        )

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def ready(self, limit_seconds: float) -> dict[str, Any]:
        """Return the worker's first line. Raises HotbenchError with the reason if the peer cannot run the case."""
        answer = self._read(limit_seconds)
        if "refused" in answer:
            raise HotbenchError(str(answer["refused"]))
        return answer

    def sample(self, limit_seconds: float = 300.0) -> float:
        """Return the seconds of one step, the median of a block."""
        if self._process.stdin is None:
            raise HotbenchError(f"{self._name} cannot be asked; start it again")
        with suppress(BrokenPipeError):
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()
        return float(self._read(limit_seconds)["seconds"])

    def end(self) -> None:
        """Kill the process and its children, and wait for it."""
        if self._ended:
            return
        self._ended = True
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self._process.wait()
        self._errors.close()

    def _read(self, limit_seconds: float) -> dict[str, Any]:
        stream = self._process.stdout
        if stream is None:
            raise HotbenchError(f"{self._name} has no output; start it again")
        stop = time.monotonic() + limit_seconds
        while b"\n" not in self._unread:
            if not select.select([stream], [], [], max(0.0, stop - time.monotonic()))[0]:
                raise HotbenchError(f"not ready after {limit_seconds:.0f} s")
            read = os.read(stream.fileno(), 1 << 16)
            if not read:
                raise HotbenchError(f"its process ended: {self._last_words()}")
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1][:200] if said else "without a word (out of memory?)"
