"""A process of the toolchain environment that a test sends its kernels to."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kernels.cuda.kernel import KernelSource
from tests.cuda import toolchain
from tests.cuda.case import Arguments, Run, split_arguments
from tests.cuda.jobs import Failure, SimulateJob

ROOT = Path(__file__).parents[2]


class JobError(RuntimeError):
    """A job failed inside the toolchain process; the text is the exception's there."""


class ToolchainProcess:
    """Sends jobs, one at a time; results come back in order."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def run(self, job: Any) -> Any:
        """Return the job's result; raise JobError if it failed there."""
        assert self.process.stdin is not None and self.process.stdout is not None
        pickle.dump(job, self.process.stdin)
        self.process.stdin.flush()
        try:
            reply = pickle.load(self.process.stdout)
        except EOFError as error:
            raise JobError(f"the toolchain process ended with status {self.process.wait()}") from error
        if isinstance(reply, Failure):
            raise JobError(reply.message)
        return reply


@contextlib.contextmanager
def toolchain_process(simulate: bool) -> Iterator[ToolchainProcess]:
    """Run a toolchain process within the context, as a group of its own that ends with it.

    Raises ToolchainUnavailable where the environment was not made.
    """
    python = toolchain.find()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "PYTHON"))}
    environment |= {"NUMBA_ENABLE_CUDASIM": "1" if simulate else "0", "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        [str(python), "-m", "tests.cuda.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )
    try:
        yield ToolchainProcess(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def simulated(process: ToolchainProcess, blocks: int, threads: int) -> Run:
    """Return a runner that launches a kernel twice, its threads in either order; the results must agree."""

    def run(source: KernelSource, arguments: Arguments) -> None:
        arrays, scalars = split_arguments(arguments)
        results = []
        for order in ("ascending", "descending"):
            job = SimulateJob(source, arrays, blocks, threads, order, scalars=scalars)
            results.append(process.run(job))
        for array, first, second in zip(arrays, *results, strict=True):
            assert first.tobytes() == second.tobytes(), "the result depends on the order of the threads"
            array[:] = first

    return run
