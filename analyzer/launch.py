"""How one variant of an experiment runs: a subprocess with an entry, threads and environment variables of its own."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.reference import WorkloadReference

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Launch:
    """How one variant runs in a subprocess of its own.

    entry:    "module:function"; called in the subprocess as `function(argument)`, it returns a prepared Workload.
              The baseline's is "analyzer.variant:rebuild_baseline" with a WorkloadReference as a dict.
    argument: plain JSON.
    threads:  intra-op threads of the subprocess.
    """

    name: str
    entry: str
    argument: dict[str, Any]
    threads: int
    environment: tuple[tuple[str, str], ...] = ()


def baseline_launch(reference: WorkloadReference, threads: int, name: str = "baseline") -> Launch:
    """Return the Launch that builds the referenced workload afresh and changes nothing."""
    return Launch(name, "analyzer.variant:rebuild_baseline", reference.as_dict(), threads)


def process_environment(launch: Launch, hash_seed: int = 0) -> dict[str, str]:
    """Return the environment variables of the launch's process, set before torch is imported there.

    What this process can import, the variant can import too. hash_seed orders the sets and dictionaries of text:
    processes to be compared have it in common. The launch's own variables win.
    """
    found = {**os.environ, **{name: str(launch.threads) for name in THREAD_VARIABLES}}
    found["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    found["PYTHONUNBUFFERED"] = "1"
    found["PYTHONHASHSEED"] = str(hash_seed)
    return {**found, **dict(launch.environment)}
