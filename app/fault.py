"""Mistakes of our own: the traceback goes into a file, one line to the user."""

from __future__ import annotations

import tempfile


def keep_traceback(text: str) -> str:
    """Write a traceback into a file of its own; return in words where it is."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="hotbench-error-", suffix=".txt", delete=False, encoding="utf-8"
        ) as stream:
            stream.write(text)
    except OSError as error:
        return f"its traceback could not be written ({error.strerror or error})"
    return f"the traceback is in {stream.name}: please report it"
