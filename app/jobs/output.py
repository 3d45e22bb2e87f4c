"""What a job's own process prints, by user's code or by libraries below Python, goes into its log."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable


class CapturedOutput:
    """While in the context, stdout and stderr of the whole process are lines for `echo`."""

    def __init__(self, echo: Callable[[str], None]) -> None:
        self._echo = echo
        self._reading, self._writing = os.pipe()
        self._kept: list[int] = []
        self._thread = threading.Thread(target=self._read, name="job output", daemon=True)

    def __enter__(self) -> CapturedOutput:
        self._kept = [os.dup(1), os.dup(2)]
        os.dup2(self._writing, 1)
        os.dup2(self._writing, 2)
        os.close(self._writing)
        # Line by line even though it is a pipe now.
        for stream in (sys.stdout, sys.stderr):
            getattr(stream, "reconfigure", lambda **_: None)(line_buffering=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(self._kept[0], 1)
        os.dup2(self._kept[1], 2)
        for kept in self._kept:
            os.close(kept)
        # A child that lives on may hold the pipe open: what it prints is not waited for.
        self._thread.join(1.0)

    def _read(self) -> None:
        with os.fdopen(self._reading, errors="replace") as stream:
            for line in stream:
                self._echo(line.rstrip("\n"))
