"""Many kernels at once: a second process compiles from the end of the list where a core has nothing to do."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path

from kernels.compiler.compile import CompiledKernel, compile_kernel, is_compiled
from kernels.compiler.kinds import Body
from kernels.compiler.loop_ir import LoopProgram

FEWEST_KERNELS = 5
"""So many are worth a process, which takes about as long to start as two of them to compile."""
_IDLE_CORES = 0.5
_WORKER = "kernels.compiler.beside_worker"
_PACKAGES = Path(__file__).resolve().parents[2]

Job = tuple[Body | LoopProgram, Path | None, int | None]
"""The arguments of compile_kernel."""


def compile_kernels(
    kernels: Mapping[str, Body | LoopProgram], cache: Path | None = None, threads: int | None = None
) -> dict[str, CompiledKernel]:
    """Return every kernel by its name, as `compile_kernel` returns each; it raises what that raises.

    The second process only fills the cache: whatever becomes of it, each kernel is loaded or compiled here.
    """
    missing: list[Job] = [
        (kernel, cache, threads) for kernel in kernels.values() if not is_compiled(kernel, cache, threads)
    ]
    if len(missing) >= FEWEST_KERNELS and idle_cores() >= _IDLE_CORES:
        # Loops take longest: this process begins with them while the other one starts.
        compile_side_by_side(sorted(missing, key=lambda job: not isinstance(job[0], LoopProgram)))
    return {name: compile_kernel(kernel, cache, threads) for name, kernel in kernels.items()}


def idle_cores() -> float:
    """Return how many of the cores that this process may use had nothing to do lately, this process left out.

    0.0 where that is not known, and where no second interpreter can be started.
    """
    if not Path(sys.executable or "").name.startswith("python"):
        return 0.0
    with contextlib.suppress(AttributeError, OSError):
        return len(os.sched_getaffinity(0)) - max(os.getloadavg()[0], 1.0)
    return 0.0


def compile_side_by_side(jobs: Iterable[Job]) -> int:
    """Compile into the cache, from both ends of the list; return how many the second process was given."""
    with _Second(deque(jobs)) as second:
        while job := second.take_first():
            compile_kernel(*job)
    return second.given


class _Second:
    """A process that is handed jobs one by one, by a thread that waits for its answers. Leaving it ends both."""

    def __init__(self, waiting: deque[Job]) -> None:
        self.given = 0
        self._waiting = waiting
        self._busy = False
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._feed, name="hotbench-compile", daemon=True)

    def take_first(self) -> Job | None:
        """Return the first job that nobody has taken, None where there is none."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def _take_last(self) -> Job | None:
        with self._lock:
            self._busy = bool(self._waiting)
            return self._waiting.pop() if self._busy else None

    def __enter__(self) -> _Second:
        paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
        with contextlib.suppress(OSError):  # no process can be started here: this one compiles everything
            self._process = subprocess.Popen(
                [sys.executable, "-m", _WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        with self._lock:
            self._waiting.clear()
            if not self._busy:
                self._process.kill()
        # What it is at is compiled to the end, so that nothing half-written is left in the cache.
        self._thread.join()
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _feed(self) -> None:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError):  # it ended early: what it was at is compiled by the first process
            while process.stdout.readline() and (job := self._take_last()):
                pickle.dump(job, process.stdin)
                process.stdin.flush()
                self.given += 1
