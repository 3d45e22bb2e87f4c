"""The loop that benchmarks of models share: every peer of a case in a process of its own, asked in turns."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.errors import HotbenchError
from analyzer.progress import Progress
from benchmarks.contract import interleave
from benchmarks.fusion_process import WorkerProcess


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a run may take: rounds of samples, seconds of a block, of one preparation, and of the whole run."""

    threads: tuple[int, ...]
    rounds: int
    block_seconds: float
    prepare_seconds: float
    total_seconds: float


@dataclass(frozen=True, slots=True)
class Asked:
    """What the peers of one case answered.

    ready: the first answer of each that could run it. samples: seconds of a step, of each that lasted to the end.
    missing: why the others were not measured, by peer. surroundings: when it was measured, and under which load.
    """

    ready: dict[str, dict[str, Any]]
    samples: dict[str, tuple[float, ...]]
    missing: dict[str, str]
    surroundings: dict[str, Any]


def ask(
    key: str,
    peers: Sequence[str],
    start: Callable[[str], WorkerProcess],
    effort: Effort,
    stop: float,
    progress: Progress,
) -> Asked:
    """Return what the peers answered, the first of them being ours: without it no other is asked.

    key: the case in words. start(peer): its process; raises HotbenchError where it cannot be had. stop: the time, by
    time.monotonic(), from which on no process is started any more.
    """
    asked = Asked({}, {}, {}, {})
    with ExitStack() as stack:
        workers: dict[str, WorkerProcess] = {}
        for number, peer in enumerate(peers):
            if number and peers[0] not in workers:
                return asked
            progress(f"{key}: preparing {peer}", number / (len(peers) + 1))
            try:
                limit = _seconds_left(effort, stop)
                worker = stack.enter_context(start(peer))
                asked.ready[peer] = worker.ready(limit)
                workers[peer] = worker
            except HotbenchError as error:
                asked.missing[peer] = str(error)
        asked.surroundings["measured"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        asked.surroundings["load_average"] = round(os.getloadavg()[0], 1)
        progress(f"{key}: measuring", len(peers) / (len(peers) + 1))
        samples = interleave({peer: _sampler(worker) for peer, worker in workers.items()}, effort.rounds)
    for peer, values in samples.items():
        if all(map(math.isfinite, values)):
            asked.samples[peer] = values
        else:
            asked.missing[peer] = "its process ended, or hung, while it was being measured"
    return asked


def _seconds_left(effort: Effort, stop: float) -> float:
    """Return the seconds that a preparation may take. Raises HotbenchError if there are none left."""
    left = min(effort.prepare_seconds, stop - time.monotonic())
    if left <= 0:
        raise HotbenchError("left out: the time of --quick is used up")
    return left


def _sampler(worker: WorkerProcess) -> Callable[[], float]:
    """Return a function that gives a sample, and NaN from the first failure on."""
    failed = False

    def sample() -> float:
        nonlocal failed
        try:
            return math.nan if failed else worker.sample()
        except HotbenchError:
            failed = True
            worker.end()
            return math.nan

    return sample


def caches(folder: Path) -> dict[str, str]:
    """Return the variables that give compilers caches of their own, empty at first."""
    return {"HOTBENCH_CACHE": str(folder / "hotbench"), "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
