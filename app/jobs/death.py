"""Why a job's process is gone, as far as can be told from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from app.child import signal_hint, signal_name

_BYTES = 8192
_LINES = 40
_ERROR = "error: "


def last_lines(errors: IO[bytes] | None) -> tuple[str, ...]:
    """Return the end of what the process wrote to its stderr: little, since its output goes into the job's log."""
    if errors is None:
        return ()
    size = errors.seek(0, 2)
    errors.seek(max(size - _BYTES, 0))
    lines = [line.rstrip() for line in errors.read().decode(errors="replace").splitlines()]
    return tuple(line for line in lines if line)[-_LINES:]


def words_of_death(code: int | None, lines: Sequence[str]) -> str:
    """Return in words how a process ended that did not say so itself; `code` is None where nobody could see it."""
    if code is None:
        return "the job's process is gone without a word: it was killed, or the machine ran out of memory"
    if code < 0:
        return f"the process was killed by {signal_name(-code)}{signal_hint(-code)}"
    said = next((line.removeprefix(_ERROR) for line in reversed(lines) if line.startswith(_ERROR)), "")
    if said:
        return said
    ended = f"the process ended with exit code {code} before it could say what it did"
    return f"{ended}; its last line: {lines[-1][:300]}" if lines else ended
