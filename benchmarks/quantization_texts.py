"""Real sentences that come with installed packages: what functions and classes say of themselves."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache

MODULES = (
    "torch", "torch.nn", "torch.nn.functional", "torch.optim", "torch.linalg", "torch.special", "torch.distributions",
    "numpy", "numpy.linalg", "numpy.fft", "numpy.random", "numpy.ma", "numpy.polynomial.polynomial",
    "pandas", "pandas.DataFrame", "pandas.Series", "pandas.Index", "pandas.arrays",
    "scipy.stats", "scipy.signal", "scipy.linalg", "scipy.optimize", "scipy.special", "scipy.sparse", "scipy.ndimage",
    "scipy.interpolate", "scipy.integrate", "scipy.spatial", "scipy.fft", "scipy.cluster.hierarchy",
    "statistics", "itertools", "functools", "datetime", "socket", "threading", "asyncio", "json", "email.message",
    "http.client", "logging", "decimal", "fractions", "random", "shutil", "os", "pathlib", "zipfile", "calendar",
)  # fmt: skip
"""Where sentences are taken from; the first part of a name is a sentence's class."""
_FEWEST_WORDS = 4
_SIGNATURE = re.compile(r"^[\w.]+\(.*")


@cache
def sentences() -> tuple[tuple[str, str], ...]:
    """Return (sentence, class) pairs, each sentence once, those of the modules in turns so that any part is mixed."""
    sources = [list(_of_module(name)) for name in MODULES]
    found: dict[str, str] = {}
    for turn in range(max(map(len, sources))):
        for name, source in zip(MODULES, sources, strict=True):
            if turn < len(source):
                found.setdefault(source[turn], name.partition(".")[0])
    return tuple(found.items())


def _of_module(name: str) -> Iterator[str]:
    owner = _owner(name)
    for key in sorted(vars(owner)):
        if key.startswith("_"):
            continue
        text = inspect.getdoc(vars(owner)[key]) or ""
        lines = [line.strip() for line in text.split("\n") if line.strip() and not _SIGNATURE.match(line.strip())]
        if lines and len(lines[0].split()) >= _FEWEST_WORDS:
            yield lines[0]


def _owner(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        owner: object = getattr(importlib.import_module(module), attribute)
        return owner
