"""The OpenMP pool that the process already has (torch brings one), so that two pools don't fight for the cores."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

_SYMBOLS = ("GOMP_parallel", "omp_get_num_threads", "omp_get_thread_num", "sched_yield")
_MAPS = Path("/proc/self/maps")


@dataclass(frozen=True, slots=True)
class Pool:
    """An OpenMP library of this process.

    table: the addresses of GOMP_parallel, omp_get_num_threads, omp_get_thread_num and C's sched_yield (which comes
           with every OpenMP library), in memory that kernels read.
    """

    library: str
    table: np.ndarray[tuple[int], np.dtype[np.int64]]


def mapped_libraries() -> tuple[str, ...]:
    """Return the paths of the OpenMP libraries that are loaded now, torch's first; () where the system cannot tell."""
    try:
        lines = _MAPS.read_text().splitlines()
    except OSError:
        return ()
    paths = {line.split(maxsplit=5)[5] for line in lines if len(line.split(maxsplit=5)) == 6}
    found = [path for path in paths if Path(path).name.startswith(("libgomp", "libiomp", "libomp"))]
    return tuple(sorted(found, key=lambda path: ("torch" not in path, path)))


def pool() -> Pool | str:
    """Return the process's pool, or in one line why kernels run on one thread only."""
    libraries = mapped_libraries()
    if not libraries:
        return "no OpenMP library is loaded in this process (import torch first); kernels run on one thread"
    for path in libraries:
        found = _open(path)
        if found is not None:
            return found
    return f"{', '.join(libraries)} exports no GOMP_parallel; kernels run on one thread"


@cache
def _open(path: str) -> Pool | None:
    try:
        # The library is loaded already: this only adds a reference to it.
        library = ctypes.CDLL(path)
        addresses = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in _SYMBOLS]
    except (OSError, AttributeError):
        return None
    return Pool(path, np.array(addresses, np.int64))
