"""A real `hotbench serve` in a process group of its own, on a free port of the loopback."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
"""Ends a test whose server hangs; a start takes a few seconds."""
_STOP_SECONDS = 30.0
Value = TypeVar("Value")
_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")


class ServerProcess:
    """A served store: start, stop politely, or kill as a power cut would."""

    def __init__(self, store: Path, workloads: Sequence[Path] = (), options: Sequence[str] = ()) -> None:
        self.store = store
        self.port = 0
        self.lines: list[str] = []
        """What it printed, for a failure's message."""
        self._arguments = ["serve", "--store", str(store), *options]
        for folder in workloads:
            self._arguments += ["--workloads", str(folder)]
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Return the address, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> subprocess.Popen[str]:
        """Return the process. Raises RuntimeError before a start."""
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process

    def start(self) -> ServerProcess:
        """Start it on its port of before, a free one at first, and return it once it listens.

        Raises RuntimeError with what it printed when it ends instead, or says no address in time.
        """
        heard = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app", *self._arguments, "--port", str(self.port)],
            cwd=ROOT,
            env=plain_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=(self._process, heard), daemon=True).start()
        listens = heard.wait(START_SECONDS)
        if not listens or self._process.poll() is not None:
            self.kill()
            raise RuntimeError("the server did not start; it printed: " + " | ".join(self.lines[-10:]))
        return self

    def _listen(self, process: subprocess.Popen[str], heard: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append(line.rstrip("\n"))
            found = _ADDRESS.search(line)
            if found and not heard.is_set():
                self.port = int(found.group(1))
                heard.set()
        heard.set()

    def stop(self) -> int:
        """Ask it to end, as Ctrl-C's kin SIGTERM does, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(_STOP_SECONDS)
        finally:
            self._kill_group()
        return code

    def kill(self) -> None:
        """End the server process alone at once, as `kill -9` does; the processes of its jobs live on."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """End the server whatever its state."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        self._kill_group()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def plain_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment with one thread for each library, and without a store of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOTBENCH_")}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **(extra or {})}


@contextlib.contextmanager
def serving(store: Path, workloads: Sequence[Path] = (), options: Sequence[str] = ()) -> Iterator[ServerProcess]:
    """Return a context with a started server; it and all its children are gone afterwards."""
    server = ServerProcess(store, workloads, options)
    try:
        yield server.start()
    except BaseException as error:
        error.add_note("the server printed: " + " | ".join(server.lines[-10:]))
        raise
    finally:
        server.close()
        for pid in processes_of(store):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def processes_of(store: Path) -> list[int]:
    """Return the living processes whose command line or environment names the store: the server, its jobs."""
    marks = (str(store).encode() + b"\0", str(store).encode() + b"/")
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            about = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (OSError, IndexError):
            continue
        if not zombie and any(mark in about for mark in marks):
            found.append(int(entry.name))
    return sorted(found)


def command_line(store: Path, *arguments: str, stdin: str | None = None) -> str:
    """Return the standard output of one `hotbench` command on the store."""
    done = subprocess.run(
        [sys.executable, "-m", "app", *arguments, "--store", str(store)],
        cwd=ROOT,
        env=plain_environment(),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"hotbench {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def wait_for(what: str, condition: Callable[[], Value], seconds: float = START_SECONDS) -> Value:
    """Return the first true value of `condition()`. Raises AssertionError naming `what` where none comes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds:.0f} s")
