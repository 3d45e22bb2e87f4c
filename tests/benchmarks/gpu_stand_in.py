"""Parts without a GPU, for tests of how parts are run: each function lists tasks that end in one way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.findings import Bar, Failed, Figure, Found, Refused, Skip, Spread, judged
from benchmarks.gpu.part import Task


def every_end(argument: str) -> list[Task]:
    return [
        Task("good", good),
        Task("wrong", _wrong),
        Task("wrong-with-facts", _wrong_with_facts),
        Task("skipped", _skipped),
        Task("refused", _refused),
    ]


def two_good(argument: str) -> list[Task]:
    return [Task(f"{argument}-first", good), Task(f"{argument}-second", good)]


def crash_between(argument: str) -> list[Task]:
    return [Task("before", good), Task("crash", _crash), Task("after", good)]


def hang_between(argument: str) -> list[Task]:
    return [Task("before", good), Task("hang", lambda: _hang(Path(argument))), Task("after", good)]


def spoilt(argument: str) -> list[Task]:
    """The second task's end spoils the process, as a CUDA error does; the third notes which process it runs in."""
    return [Task("before", good), Task("spoils", lambda: _spoil(argument)), Task("after", lambda: _note(argument))]


def cannot_list(argument: str) -> list[Task]:
    raise ModuleNotFoundError("No module named 'absent_package'")


def good() -> Found:
    figure = Figure("case", "peer", "microseconds", Spread(2.0, 1.9, 2.2), Spread(4.0, 3.9, 4.1), Spread(2.0, 1.8, 2.1))
    return Found("went well", (judged(figure, Bar("ratio", at_least=1.5), "NVIDIA H100"),), {"count": 3})


def _wrong() -> Found:
    raise ValueError("element 7 is 1.0\ninstead of 2.0")


def _wrong_with_facts() -> Found:
    raise Failed("one of two tests failed", {"tests": {"test_a": "passed", "test_b": "failed"}})


def _skipped() -> Found:
    raise Skip("the peer is not installed")


def _refused() -> Found:
    raise Refused("fusion runs on the CPU only")


def _crash() -> Found:
    print("about to die", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def _hang(noted: Path) -> Found:
    """Start a process that outlives its parent, note its id, and never end."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    noted.write_text(str(process.pid))
    time.sleep(600)
    raise AssertionError


def _spoil(argument: str) -> Found:
    sys.modules["__main__"].cuda_is_spoilt = lambda: True  # type: ignore[attr-defined]
    Path(argument).write_text(str(os.getpid()))
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def _note(argument: str) -> Found:
    same = Path(argument).read_text() == str(os.getpid())
    return Found("in the same process" if same else "in a new process")
