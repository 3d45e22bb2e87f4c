"""What a command prints: results on stdout, progress and notes on stderr."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzer import progress as reporting
from analyzer.record import to_plain
from app.units import printable

# Rich is imported where it is used: a worker's machine has the core packages alone, and lists its commands too.

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress

WIDTH = 110
"""Columns where output goes into a file or a pipe."""


class Terminal:
    """stdout and stderr of one command. With `as_json` stdout holds one JSON object and nothing else."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self._out = _console(sys.stdout)
        self._err = _console(sys.stderr)

    @property
    def width(self) -> int:
        """Return the columns of stdout."""
        return self._out.width

    def result(self, data: dict[str, Any], *people: RenderableType) -> None:
        """Print the result: `data` as JSON when asked for, else the renderables for people."""
        if self.as_json:
            # JSON has no NaN and no infinity: to_plain writes them as text.
            print(json.dumps(to_plain(data), indent=1, ensure_ascii=False, allow_nan=False))
        else:
            self.show(*people)

    def show(self, *people: RenderableType) -> None:
        """Print for people; nothing with --json."""
        from rich.text import Text

        if not self.as_json:
            for item in people:
                # A Text is left to the terminal to wrap: a command to copy must not be cut.
                self._out.print(item, markup=False, highlight=False, soft_wrap=isinstance(item, Text))

    def note(self, text: str) -> None:
        """Print one line on stderr."""
        self._err.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self, title: str) -> Iterator[reporting.Progress]:
        """Yield a Progress: a bar on a terminal, a line for each new stage elsewhere."""
        if self._err.is_terminal:
            with self._bar() as bar:
                task = bar.add_task(title, total=1.0)
                yield lambda stage, fraction: bar.update(task, description=_cut(stage), completed=fraction)
                bar.update(task, completed=1.0, description=title)
        else:
            yield _Lines(self)

    def _bar(self) -> Progress:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        return Progress(
            TextColumn("[bold]{task.description}", markup=True),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=self._err,
            transient=True,
        )


class _Lines:
    """Progress without a terminal: one line for each stage. Before the first one has ended there is none to tell of."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._stage = ""

    def __call__(self, stage: str, fraction: float) -> None:
        if fraction > 0 and stage != self._stage:
            self._stage = stage
            self._terminal.note(f"{100 * fraction:3.0f} % {stage}")


def invocation() -> str:
    """Return how this person can start Hotbench again: `hotbench`, the path to it, or `python -m app`."""
    if Path(sys.argv[0]).name == "hotbench" or shutil.which("hotbench"):
        return "hotbench" if shutil.which("hotbench") else sys.argv[0]
    script = Path(sys.executable).parent / "hotbench"
    if script.exists():
        return os.path.relpath(script) if script.is_relative_to(Path.cwd()) else str(script)
    return f"{Path(sys.executable).name} -m app"


def store_option(place: str | None) -> str:
    """Return ` --store PLACE`, quoted for a shell, where the store was named on the command line."""
    return f" --store {shlex.quote(place)}" if place else ""


def _cut(text: str) -> str:
    return printable(text).replace("[", "(").replace("]", ")")[:48].ljust(24)


def _console(stream: Any) -> Console:
    from rich.console import Console

    return Console(file=stream, width=None if stream.isatty() else WIDTH, soft_wrap=False)
