"""The compiled modules of quantized products: built at first use, kept in the disk cache of generated kernels."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from kernels.compiler import openmp
from kernels.compiler.cache import default_folder, is_whole, toolchain
from kernels.compiler.loaded import bare_entry, build_cached, load_cached
from kernels.quantized.cpu_source import FUNCTION

_one_at_a_time = threading.Lock()
_alive: list[ModuleType] = []
"""Modules whose functions were handed out: they hold the machine code."""
_pools: list[openmp.Pool] = []
_SOURCES = ("compiler/intrinsics.py", "compiler/prelude.py", "quantized/cpu_*.py")


@dataclass(frozen=True, slots=True)
class CompiledFamily:
    """The compiled products of one kind of weights, for all shapes.

    entry: takes the addresses and numbers of cpu_source.PARAMETERS.
    quantise: writes rows of activations into the workspace, as `entry` does first.
    """

    kind: str
    path: Path
    entry: Callable[..., None]
    parallel: Callable[..., None]
    quantise: Callable[..., None]
    share: int
    task: int
    """The address of a C function that computes a product whose arguments lie at an address, as int64."""
    parallel_task: int
    """The same for several threads; behind the arguments: the pool's table, `share`, how many threads."""
    _module: ModuleType = field(repr=False)
    """Keeps the machine code alive."""

    def run(self, arguments: tuple[int, ...], threads: int) -> str:
        """Compute one product; return why it ran on one thread although more were asked for, or nothing."""
        if threads > 1:
            found = shared_pool()
            if isinstance(found, openmp.Pool):
                self.parallel(*arguments, int(found.table.ctypes.data), self.share, threads)
                return ""
            self.entry(*arguments)
            return found
        self.entry(*arguments)
        return ""


def shared_pool() -> openmp.Pool | str:
    """Return the process's threads, or in one line why there are none.

    Once found they are remembered: to ask anew, as openmp.pool does, takes longer than many a product.
    """
    if not _pools:
        found = openmp.pool()
        if isinstance(found, str):
            return found
        _pools.append(found)
    return _pools[0]


def compiled_family(kind: str, text: str, folder: Path | None = None) -> CompiledFamily:
    """Return the module of a text, compiled or from the cache folder (default: that of generated kernels).

    A cache folder that cannot be written raises OSError.
    """
    with _one_at_a_time:
        return _family(kind, text, default_folder() if folder is None else folder)


def compiled_text(kind: str, text: str, names: tuple[str, ...]) -> dict[str, Callable[..., Any]]:
    """Return compiled functions of a text by name; a kind tells texts apart that are the same.

    A cache folder that cannot be written raises OSError.
    """
    with _one_at_a_time:
        module, _ = _module(f"quantized {kind}", text, default_folder())
    _alive.append(module)
    return {name: bare_entry(module, name) for name in names}


def compiled_convolution(kind: str, text: str) -> tuple[Callable[..., None], Callable[..., None], int]:
    """Return the compiled convolutions of a kind: for one thread, for several, and the address of a thread's share.

    A cache folder that cannot be written raises OSError.
    """
    with _one_at_a_time:
        module, _ = _module(f"convolution {kind}", text, default_folder())
    _alive.append(module)
    share = int(module.convolve_share.address)
    return bare_entry(module, "convolve"), bare_entry(module, "convolve_parallel"), share


def _module(what: str, text: str, root: Path) -> tuple[ModuleType, Path]:
    """Return the module of a text and its file."""
    key = "\n".join((what, text, *toolchain(), _sources_hash()))
    entry = root / hashlib.sha256(key.encode()).hexdigest()[:24]
    path = entry / f"hotbench_{entry.name}.py"
    module = load_cached(path) if is_whole(entry) else None
    if module is None:
        module = build_cached(text, entry, path.name)
    return module, path


@cache
def _family(kind: str, text: str, root: Path) -> CompiledFamily:
    module, path = _module("quantized", text, root)
    return CompiledFamily(
        kind=kind,
        path=path,
        entry=bare_entry(module, FUNCTION),
        parallel=bare_entry(module, f"{FUNCTION}_parallel"),
        quantise=bare_entry(module, "quantise"),
        share=int(getattr(module, f"{FUNCTION}_share").address),
        task=int(getattr(module, f"{FUNCTION}_task").address),
        parallel_task=int(getattr(module, f"{FUNCTION}_parallel_task").address),
        _module=module,
    )


@cache
def _sources_hash() -> str:
    """Return a hash of the modules that the machine code is made from."""
    digest, root = hashlib.sha256(), Path(__file__).parents[1]
    for pattern in _SOURCES:
        for path in sorted(root.glob(pattern)):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
