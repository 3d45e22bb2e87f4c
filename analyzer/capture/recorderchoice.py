"""Which recorder the timing pass takes, and why: ours on a CPU where it was checked, torch's profiler elsewhere."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from analyzer.capture import callbacks
from analyzer.capture.nativecode import ARCHITECTURE

PROFILER_ONLY = "HOTBENCH_PROFILER_ONLY"
CHECK = "analyzer.capture.recordercheck"
CHECK_SECONDS = 300.0
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
_SOURCES = ("nativecode.py", "callbacks.py", "oplog.py", "oprecorder.py", "recordercheck.py")


def why_not_ours() -> str:
    """Return why our recorder can't be used in this process; "" where it can."""
    if os.environ.get(PROFILER_ONLY):
        return f"{PROFILER_ONLY} is set"
    return _unfit_machine() or _checked()


def _unfit_machine() -> str:
    """Return what is missing that needs no check to be seen."""
    if sys.platform != "linux" or platform.machine() != ARCHITECTURE:
        return f"it runs on Linux and {ARCHITECTURE} only"
    if not _steady_counter():
        return "the processor's tick counter does not run at a steady rate"
    if importlib.util.find_spec("llvmlite") is None:
        return "llvmlite is not installed"
    try:
        missing = callbacks.missing_symbols()
    except OSError:
        return "torch's library is not in its usual place"
    return f"torch {torch.__version__} does not export {missing[0]}" if missing else ""


def _steady_counter() -> bool:
    """Return whether the counter ticks on at one rate whatever the clock speed and in every sleep state."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return False
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return "constant_tsc" in flags and "nonstop_tsc" in flags


@functools.cache
def _checked() -> str:
    """Return what the check found with these versions, from the user's cache folder or from a process of its own."""
    file = _cache_folder() / f"{_key()}.json"
    try:
        return str(json.loads(file.read_bytes())["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    reason, lasting = run_check()
    if lasting:
        _keep(file, reason)
    return reason


def run_check() -> tuple[str, bool]:
    """Return what the check says, "" if it passed, and whether that will be so the next time too."""
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))}
    environment["OMP_NUM_THREADS"] = "1"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", CHECK], env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=CHECK_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"its check could not be run ({type(error).__name__})", False
    if done.returncode < 0:
        return f"its check ended with signal {-done.returncode}", -done.returncode in CRASHES
    try:
        found = json.loads(done.stdout.splitlines()[-1])
        return str(found["reason"]), bool(found["lasting"])
    except (ValueError, KeyError, IndexError, TypeError):
        return f"its check ended with status {done.returncode}", False


def _key() -> str:
    """Return a hash of all that the check depends on."""
    parts = [torch.__version__, sys.version, platform.platform(), str(Path(torch.__file__).stat().st_mtime_ns)]
    parts += [str(importlib.util.find_spec("llvmlite"))]
    digest = hashlib.sha256("\n".join(parts).encode())
    for name in _SOURCES:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()[:24]


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hotbench" / "recorder"


def _keep(file: Path, reason: str) -> None:
    """Write what the check found, whole or not at all; a folder that can't be written costs a check in each process."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as new:
            json.dump({"reason": reason}, new)
        Path(new.name).replace(file)
    except OSError:
        return
