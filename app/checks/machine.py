"""What checks ask of a machine, in one value, so that tests can simulate another one."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import importlib
import os
import signal
import site
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

LIMIT_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a child process ended: its exit status, None where it was killed at the time limit, and what it printed."""

    status: int | None
    output: str
    errors: str

    @property
    def last_error(self) -> str:
        """Return the last line on its standard error; what ended it where there is none."""
        lines = [line.strip() for line in self.errors.splitlines() if line.strip()]
        if lines:
            return lines[-1]
        if self.status is None:
            return f"it did not end within {LIMIT_SECONDS:.0f} s"
        return f"it ended with status {self.status}"


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that is examined; by default this one.

    load:         a shared library's name or path -> the library; raises OSError.
    module:       a Python module's name -> the module; raises ImportError.
    version:      a distribution's name -> its version, None where it is not installed.
    find_library: as ctypes.util.find_library.
    run:          a module of ours and its arguments, run in a process of its own: what may crash or hang.
    root:         what /proc and /sys are below.
    prefix:       the environment's folder; packages: its folders of packages.
    """

    load: Callable[[str], Any] = ctypes.CDLL
    module: Callable[[str], Any] = importlib.import_module
    version: Callable[[str], str | None] = field(default_factory=lambda: distribution_version)
    find_library: Callable[[str], str | None] = ctypes.util.find_library
    run: Callable[[str, Sequence[str]], Outcome] = field(default_factory=lambda: run_module)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    root: Path = Path("/")
    prefix: Path = Path(sys.prefix)
    packages: tuple[Path, ...] = field(default_factory=lambda: tuple(map(Path, site.getsitepackages())))

    def text(self, path: str) -> str | None:
        """Return a file's text, its path below `root`; None where it cannot be read."""
        try:
            return (self.root / path).read_text(errors="replace")
        except OSError:
            return None


def distribution_version(name: str) -> str | None:
    """Return the version of an installed distribution, None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def run_module(module: str, arguments: Sequence[str]) -> Outcome:
    """Return how `python -m module arguments` ended; its process group is killed at LIMIT_SECONDS."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=LIMIT_SECONDS)
        return Outcome(process.returncode, output, errors)
    except subprocess.TimeoutExpired:
        return Outcome(None, "", "")
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
