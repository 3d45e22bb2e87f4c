"""Processes of a job: who lives, and how all that a job started is ended, whatever sessions it hides in."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARK = "HOTBENCH_JOB"
"""Inherited by all that a job starts: how its orphans are found again."""

_PROC = Path("/proc")
_ROUNDS = 20


def process_record(pid: int) -> dict[str, Any]:
    """Return {"pid", "started"}: a later process of the same number has another start."""
    return {"pid": pid, "started": _started(pid)}


def alive(record: Mapping[str, Any] | None) -> bool:
    """Return whether the very process that `process_record` described still runs; a zombie does not."""
    if record is None:
        return False
    started = _started(int(record["pid"]))
    return bool(started) and started == record["started"]


def mark_of(job: str, claim: str) -> str:
    """Return the value of MARK for one claim of a job."""
    return f"{job}:{claim}"


def marked(mark: str) -> tuple[int, ...]:
    """Return the living processes that carry that mark, apart from this one. Empty where there is no /proc."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in _PROC.glob("[0-9]*"):
        # Processes of others cannot be read, and some end while we look.
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return tuple(pid for pid in found if pid != os.getpid())


def ask_to_end(record: Mapping[str, Any]) -> None:
    """Send SIGTERM to the job's process alone: it ends what it started."""
    if alive(record):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(int(record["pid"]), signal.SIGTERM)


def kill_tree(record: Mapping[str, Any] | None, mark: str) -> None:
    """Kill the job's process with its group, and then everything that carries its mark, in whatever session."""
    if record is not None and alive(record):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(int(record["pid"]), signal.SIGKILL)
    # In rounds: what is being killed may still be starting something.
    for _ in range(_ROUNDS):
        survivors = marked(mark)
        for pid in survivors:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not survivors:
            return
        time.sleep(0.05)


def _started(pid: int) -> str:
    """Return when a living process began, in words that fit no other one; "" for one that is gone or a zombie."""
    if not _PROC.joinpath("self").exists():
        return _started_elsewhere(pid)
    try:
        # The name in brackets may hold anything: what follows the last bracket is state, parent, …
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else f"{boot}:{fields[19]}"


def _started_elsewhere(pid: int) -> str:
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, began = answer.stdout.strip().partition(" ")
    return "" if not began or state.startswith("Z") else began.strip()
