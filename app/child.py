"""Run one of our own commands in a process of its own: the user's code may crash, hang or be killed there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analyzer.errors import HotbenchError
from analyzer.progress import Progress

_KEPT_LINES = 50
_GRACE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Finished:
    """How a child ended, and the last lines that were no progress."""

    code: int
    lines: tuple[str, ...]


def run_child(command: Sequence[str], progress: Progress, echo: Callable[[str], None], error_prefix: str) -> Finished:
    """Run `command` to its end; its progress lines go to `progress`, all else that it prints to `echo`.

    A last line that begins with `error_prefix` is its own error: it is kept for `check_finished`, not echoed.
    The child and all that it started are ended when the caller is interrupted.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    # A grandchild that outlives a killed child would hold the pipe open for ever.
    threading.Thread(target=_end_with, args=(process,), daemon=True).start()
    try:
        assert process.stdout is not None
        held = ""
        for line in process.stdout:
            if _is_progress(line, progress):
                continue
            if held:
                echo(held)
            kept.append(line.rstrip("\n"))
            held = kept[-1]
        code = process.wait()
        if held and not (code and held.startswith(error_prefix)):
            echo(held)
        return Finished(code, tuple(kept))
    finally:
        _end_group(process)


def check_finished(what: str, finished: Finished, error_prefix: str) -> None:
    """Raise HotbenchError with one line unless the child ended well; `what` is what it did, such as "capture"."""
    if finished.code == 0:
        return
    if finished.code < 0:
        number = -finished.code
        raise HotbenchError(f"{what} was killed by {_signal_name(number)}; nothing was saved{_hint(number)}")
    for line in reversed(finished.lines):
        if line.startswith(error_prefix):
            raise HotbenchError(line.removeprefix(error_prefix))
    last = next((line.strip() for line in reversed(finished.lines) if line.strip()), "it printed nothing")
    raise HotbenchError(f"{what} ended with exit code {finished.code} and nothing was saved; its last line: {last}")


def _is_progress(line: str, progress: Progress) -> bool:
    if not line.startswith('{"stage"'):
        return False
    try:
        data = json.loads(line)
        progress(str(data["stage"]), float(data["fraction"]))
    except (ValueError, KeyError, TypeError):
        return False
    return True


def _end_with(process: subprocess.Popen[str]) -> None:
    process.wait()
    _signal_group(process.pid, signal.SIGKILL)


def _end_group(process: subprocess.Popen[str]) -> None:
    """End the child's whole session: politely while it runs, then for certain."""
    if process.poll() is None:
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _hint(number: int) -> str:
    if number == signal.SIGKILL:
        return "; on Linux that is often the out-of-memory killer: try a smaller batch"
    if number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE):
        return "; native code in the workload crashed: run it without Hotbench to see where"
    return ""
