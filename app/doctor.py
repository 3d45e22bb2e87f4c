"""What this machine offers Hotbench, and how to mend what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from analyzer.errors import HotbenchError
from app.checks.check import FAIL, OK, WARN, Check, guarded
from app.checks.gpu import examine_gpu
from app.store import open_store
from app.store.location import locate
from app.units import mebibytes, plural

_SUPPORTED = ((3, 11), (3, 12))
_LEAST_FREE_BYTES = 2**30


def examine(store: str | None) -> tuple[Check, ...]:
    """Return every check, in the order in which they matter. A check that itself fails says so."""
    checks: tuple[tuple[str, Callable[[], Check]], ...] = (
        ("python", _python),
        ("torch", lambda: _package("torch", "2.11", "2.14")),
        ("numba", lambda: _package("numba", "0.64", "0.69")),
        ("processor", _processor),
        ("threads", _threads),
        ("openmp", _openmp),
        ("kernel cache", _cache),
        ("store", lambda: _store(store)),
        ("disk", lambda: _disk(store)),
    )
    return (*(guarded(name, check) for name, check in checks), *examine_gpu())


def healthy(checks: tuple[Check, ...]) -> bool:
    """Return whether nothing essential fails."""
    return all(check.state != FAIL for check in checks)


def _python() -> Check:
    found = platform.python_version()
    if sys.version_info[:2] in _SUPPORTED:
        return Check("python", OK, f"{found} at {sys.executable}")
    return Check("python", FAIL, found, "use Python 3.11 or 3.12")


def _package(name: str, first: str, beyond: str) -> Check:
    remedy = f"pip install '{name}>={first},<{beyond}'"
    try:
        found = importlib.metadata.version(name)
        __import__(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, FAIL, "not installed", remedy)
    except Exception as error:
        return Check(name, FAIL, f"cannot be imported: {error}", remedy)
    inside = _numbers(first) <= _numbers(found) < _numbers(beyond)
    return Check(name, OK, found) if inside else Check(name, WARN, f"{found} is untested", remedy)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit())


def _processor() -> Check:
    import llvmlite.binding as llvm
    import torch

    features = llvm.get_host_cpu_features()
    known = [name for name in ("avx2", "fma", "avx512f", "amx-tile", "neon", "sve") if features.get(name)]
    capability = torch.backends.cpu.get_cpu_capability()
    found = f"{llvm.get_host_cpu_name()}: {', '.join(known) or 'no vector extension known'}; PyTorch uses {capability}"
    if known:
        return Check("processor", OK, found)
    return Check("processor", WARN, found, "fused kernels run, but without wide vectors they gain less")


def _threads() -> Check:
    import torch

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    found = f"{plural(threads, 'thread')} on {plural(allowed, 'usable core')}"
    if threads <= allowed:
        return Check("threads", OK, found)
    return Check("threads", WARN, found, f"times will scatter: set OMP_NUM_THREADS={allowed} or pass --threads")


def _openmp() -> Check:
    """Fused kernels run on the thread pool of PyTorch's OpenMP: a second pool would fight for the same cores."""
    import torch  # noqa: F401  (its runtime is the one to share)

    from kernels.compiler.openmp import pool

    found = pool()
    if isinstance(found, str):
        return Check("openmp", WARN, found, "use a PyTorch build that brings libgomp")
    return Check("openmp", OK, f"kernels share PyTorch's thread pool, {Path(found.library).name}")


def _cache() -> Check:
    from kernels.compiler.cache import default_folder

    return _writable("kernel cache", default_folder(), "set HOTBENCH_CACHE to a folder that you may write to")


def _writable(name: str, folder: Path, remedy: str) -> Check:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".hotbench-doctor-"):
            return Check(name, OK, f"{folder} can be written")
    except OSError as error:
        return Check(name, FAIL, f"{folder}: {error.strerror or error}", remedy)


def _store(place: str | None) -> Check:
    try:
        with open_store(place) as store:
            count = len(store.entries())
            if not store.writable:
                return Check("store", FAIL, f"{store.label} is read-only", "give another one with --store")
            with store.staging():
                return Check("store", OK, f"{store.label}: {count} entries")
    except HotbenchError as error:
        return Check("store", FAIL, str(error), "give another one with --store or HOTBENCH_STORE")


def _disk(place: str | None) -> Check:
    folder = locate(place).blobs
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{mebibytes(free)} free at {folder}"
    if free >= _LEAST_FREE_BYTES:
        return Check("disk", OK, found)
    return Check("disk", WARN, found, "free some space: a run with its tables takes a few MiB, an artifact its weights")
