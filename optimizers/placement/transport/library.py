"""Where libucp is: UCX picks RDMA verbs, shared memory or TCP by itself; no compiler and no CUDA is needed."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
import os
import site
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "HOTBENCH_UCX"
OLDEST = (1, 12)
_QUIET = {"UCX_LOG_LEVEL": "fatal", "UCX_HANDLE_ERRORS": "none"}
_NODELETE = 0x1000  # dlclose at exit crashes some builds: their threads still run


@dataclass(frozen=True, slots=True)
class Library:
    """A libucp that loads.

    origin: "HOTBENCH_UCX", "system", "mpich wheel" or "libucx wheel".
    version: as libucp says it, (major, minor, release).
    """

    path: str
    origin: str
    version: tuple[int, int, int]

    def load(self) -> ctypes.CDLL:
        """Return the loaded library; its calls hold no Python lock."""
        return _opened(self.path)

    def __str__(self) -> str:
        return f"UCX {'.'.join(map(str, self.version))} ({self.origin})"


@functools.cache
def _searched(explicit: str | None) -> Library | str:
    problems = []
    for origin, path in _candidates(explicit):
        found = _load(origin, path)
        if isinstance(found, Library):
            return found
        problems.append(found)
        if origin == VARIABLE:  # who names one wants that one
            break
    looked = "; ".join(problems) or "no system library, no mpich wheel, no libucx wheel"
    return f"libucp was not found ({looked}); install mpich with pip, or UCX, or set {VARIABLE} to libucp.so.0"


def find_library() -> Library | str:
    """Return the libucp to use, or, in words, why there is none.

    Order: the path in HOTBENCH_UCX, the system's (with the drivers of its network cards), the mpich wheel's, the libucx
    wheel's (which has no verbs).
    """
    return _searched(os.environ.get(VARIABLE) or None)


def available() -> str:
    """Return nothing where there is a libucp, else, in words, why there is none."""
    found = find_library()
    return found if isinstance(found, str) else ""


def _candidates(explicit: str | None) -> Iterator[tuple[str, str]]:
    if explicit:
        yield VARIABLE, explicit
        return
    system = ctypes.util.find_library("ucp")
    if system:
        yield "system", system
    for prefix in dict.fromkeys((sys.prefix, site.getuserbase())):
        yield from _existing("mpich wheel", Path(prefix) / "lib" / "mpich" / "libucp.so.0")
    package = importlib.util.find_spec("libucx")
    if package is not None and package.origin is not None:
        yield from _existing("libucx wheel", Path(package.origin).parent / "lib" / "libucp.so.0")


def _existing(origin: str, path: Path) -> Iterator[tuple[str, str]]:
    if path.exists():
        yield origin, str(path)


def _opened(path: str) -> ctypes.CDLL:
    """Return the loaded library; what UCX would print of a peer that is gone is said in words of our own."""
    quiet = {name: value for name, value in _QUIET.items() if name not in os.environ}
    os.environ.update(quiet)  # read once, while the library is loaded
    try:
        return ctypes.CDLL(path, mode=os.RTLD_NOW | _NODELETE)
    finally:
        for name in quiet:
            del os.environ[name]


def _load(origin: str, path: str) -> Library | str:
    numbers = [ctypes.c_uint() for _ in range(3)]
    try:
        _opened(path).ucp_get_version(*map(ctypes.byref, numbers))
    except (OSError, AttributeError) as error:
        return f"{origin}: {path} does not load as libucp: {error}"
    version = (numbers[0].value, numbers[1].value, numbers[2].value)
    if version < OLDEST:
        return f"{origin}: {path} is UCX {version[0]}.{version[1]}, which is older than {OLDEST[0]}.{OLDEST[1]}"
    return Library(path, origin, version)
