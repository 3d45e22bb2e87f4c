"""Run one of our own commands in a process of its own: the user's code may crash, hang or be killed there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analyzer.errors import HotbenchError
from analyzer.progress import Progress
from app.fault import keep_traceback

_KEPT_LINES = 200
_GRACE_SECONDS = 3.0
_TRACEBACK = "Traceback (most recent call last)"
_LEASH = str(Path(__file__).with_name("leash.py"))


@dataclass(frozen=True, slots=True)
class Finished:
    """How a child ended, and the last lines that were no progress."""

    code: int
    lines: tuple[str, ...]


def run_child(command: Sequence[str], progress: Progress, echo: Callable[[str], None], error_prefix: str) -> Finished:
    """Run `command` to its end; its progress lines go to `progress`, all else that it prints to `echo`.

    A last line that begins with `error_prefix`, or a traceback, is kept for `check_finished` and not echoed.
    The child and all that it started are ended when the caller is interrupted; the child ends with a killed caller.
    """
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", _LEASH, str(os.getpid()), *command],
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
        held: list[str] = []
        for line in process.stdout:
            if _is_progress(line, progress):
                continue
            kept.append(line.rstrip("\n"))
            # What may be its last words is held back, all else is told at once.
            if held and held[0].startswith(error_prefix):
                held = _tell(held, echo)
            held.append(kept[-1])
            if not held[0].startswith((error_prefix, _TRACEBACK)):
                held = _tell(held, echo)
        code = process.wait()
        if code == 0:
            _tell(held, echo)
        return Finished(code, tuple(kept))
    finally:
        _end_group(process)


def _tell(lines: list[str], echo: Callable[[str], None]) -> list[str]:
    for line in lines:
        echo(line)
    return []


def check_finished(what: str, finished: Finished, error_prefix: str) -> None:
    """Raise HotbenchError with one line unless the child ended well; `what` is what it did, such as "capture"."""
    if finished.code == 0:
        return
    if finished.code < 0:
        number = -finished.code
        raise HotbenchError(f"{what} was killed by {signal_name(number)}; nothing was saved{signal_hint(number)}")
    for line in reversed(finished.lines):
        if line.startswith(error_prefix):
            raise HotbenchError(line.removeprefix(error_prefix))
    last = next((line.strip() for line in reversed(finished.lines) if line.strip()), "it printed nothing")
    ended = f"{what} ended with exit code {finished.code} and nothing was saved"
    if any(line.startswith(_TRACEBACK) for line in finished.lines):
        raise HotbenchError(f"{ended}: {last[:300]}; {keep_traceback(chr(10).join(finished.lines))}")
    raise HotbenchError(f"{ended}; its last line: {last[:300]}")


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


def signal_name(number: int) -> str:
    """Return the signal in words."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def signal_hint(number: int) -> str:
    """Return what often lies behind a death by that signal, to be put after it; "" where nothing is known."""
    if number == signal.SIGKILL:
        return "; on Linux that is often the out-of-memory killer: try a smaller batch"
    if number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE):
        return "; native code in the workload crashed: run it without Hotbench to see where"
    return ""
