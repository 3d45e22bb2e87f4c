"""Marks, in the profiler's own event stream, which line of the user's code is running.

The profiler's Python stacks name functions, not lines, and slot calls such as `a @ b` leave no event. So during the
graph pass, which is never timed, a line tracer opens and closes an empty range at every new line of user code; ops are
then attributed to the last mark before them on their thread.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from analyzer.capture.recording import LINE_MARKER

_PACKAGES = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
_STANDARD = sysconfig.get_path("stdlib")
_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).resolve().parents[1])


class LineMarks:
    """The lines that were marked, by the number in the marker's name; line 0 means none of the user's."""

    def __init__(self, root: Path) -> None:
        self.sources: list[str] = [""]
        self._root = root
        self._numbers: dict[tuple[str, int], int] = {}
        self._mine: dict[str, bool] = {}
        self._current = 0

    def source(self, marker: str) -> str:
        """Return "file.py:42" for a marker's name."""
        return self.sources[int(marker.removeprefix(LINE_MARKER))]

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Mark lines on this thread meanwhile; an outer tracer (a debugger, a coverage tool) is put back afterwards."""
        outer = sys.gettrace()
        self._mark(None)
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(outer)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._inside if self._is_user(frame.f_code.co_filename) else None

    def _inside(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self._mark(frame)
        elif event == "return":
            self._mark(self._nearest(frame.f_back))
        return self._inside

    def _nearest(self, frame: FrameType | None) -> FrameType | None:
        """Return the innermost user frame from `frame` outwards, none beyond our own: our caller is not the step."""
        while frame is not None and not self._is_user(frame.f_code.co_filename):
            if frame.f_code.co_filename.startswith(_OURS):
                return None
            frame = frame.f_back
        return frame

    def _mark(self, frame: FrameType | None) -> None:
        number = 0 if frame is None else self._number(frame.f_code.co_filename, frame.f_lineno)
        if number != self._current:
            self._current = number
            with torch._C._profiler._RecordFunctionFast(f"{LINE_MARKER}{number}"):
                pass

    def _number(self, filename: str, line: int) -> int:
        key = (filename, line)
        if key not in self._numbers:
            self._numbers[key] = len(self.sources)
            self.sources.append(f"{_shorten(filename, self._root)}:{line}")
        return self._numbers[key]

    def _is_user(self, filename: str) -> bool:
        if filename not in self._mine:
            self._mine[filename] = is_user_code(filename)
        return self._mine[filename]


def is_user_code(filename: str) -> bool:
    """Return whether a source file is the user's: neither torch, nor ours, nor the standard library, nor generated."""
    if filename.startswith("<") or filename.startswith((_TORCH + "/", _OURS + "/")):
        return False
    return filename.startswith(_PACKAGES) or not filename.startswith(_STANDARD + "/")


def _shorten(filename: str, root: Path) -> str:
    """Return the path below the workload's folder or the installed packages; else the file's name."""
    path = Path(filename)
    for base in (root, *map(Path, _PACKAGES)):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return path.name
