"""Starts a variant's process, asks it things, and makes sure that nothing of it is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import IO, Any

from analyzer.errors import HotbenchError
from analyzer.launch import Launch, process_environment

WORKER = "analyzer.stage"
BASELINE, CANDIDATE, AGAIN = "baseline", "candidate", "baseline again"


class VariantError(HotbenchError):
    """A variant that raised, died or hung; `role` is the part that it plays in the experiment."""

    def __init__(self, role: str, name: str, what: str) -> None:
        super().__init__(f"{role} {name!r} {what}" if name != role else f"{role} {what}")
        self.role = role


class Variant:
    """A variant's process, in a process group of its own. Use it as a context manager: leaving it kills the group.

    One request at a time: `send` and then `receive`, or `ask` for both.
    """

    def __init__(self, launch: Launch, role: str, *, timeout_seconds: float = 600.0, hash_seed: int = 0) -> None:
        self.launch = launch
        self.role = role
        self.timeout_seconds = timeout_seconds
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._buffer = b""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=process_environment(launch, hash_seed),
            start_new_session=True,
        )

    def __enter__(self) -> Variant:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Return the process's id, which is its group's as well."""
        return self._process.pid

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """Return the reply to a request. Raises VariantError when the variant raised, died or took too long."""
        self.send(request, **arguments)
        return self.receive()

    def send(self, request: str, **arguments: Any) -> None:
        """Write one request line."""
        stream = self._process.stdin
        if stream is None:
            raise self._error("has no pipe to write to; start it again")
        line = json.dumps({"request": request, **arguments}) + "\n"
        try:
            stream.write(line.encode())
            stream.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._error(self._death()) from error

    def receive(self) -> dict[str, Any]:
        """Return the reply to the request that was sent last."""
        reply: dict[str, Any] = json.loads(self._read_line())
        if "error" in reply:
            raise self._error(f"failed: {reply['error']}")
        return reply

    def _read_line(self) -> bytes:
        stream = self._process.stdout
        if stream is None:
            raise self._error("has no pipe to read from; start it again")
        deadline = time.monotonic() + self.timeout_seconds
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(deadline - time.monotonic(), 0.0)):
                    self.kill()
                    raise self._error(
                        f"gave no answer for {self.timeout_seconds:g} s and was ended; look for a deadlock"
                    )
                read = os.read(stream.fileno(), 1 << 16)
                if not read:
                    raise self._error(self._death())
                self._buffer += read
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _death(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "closed its pipe; its code must leave file descriptors alone"
        cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        last = self._last_words()
        return f"{cause}{': ' + last if last else ''}"

    def _last_words(self) -> str:
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(self._log.tell() - 4096, 0))
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def _error(self, what: str) -> VariantError:
        return VariantError(self.role, self.launch.name, what)

    def kill(self) -> None:
        """End the whole process group and wait for it; harmless when it has ended already."""
        # The group may outlive its leader: a data loader's workers, for instance.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._process.wait()
        self._log.close()
