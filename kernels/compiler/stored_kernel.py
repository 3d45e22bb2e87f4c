"""A kernel by the name of its cache entry alone: whatever kind it is, nothing is printed or checked anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from kernels.compiler import openmp
from kernels.compiler.cache import default_folder, is_whole
from kernels.compiler.compile import FUNCTION, bare_entry, load_cached


@dataclass(frozen=True, slots=True)
class StoredKernel:
    """A compiled kernel as it was stored; `entry(*addresses)` is the way in, as for every kind of kernel.

    parallel: whether `threads` has an effect.
    """

    source: str
    path: Path
    entry: Callable[..., None]
    parallel: bool
    _module: ModuleType = field(repr=False)
    """Keeps the machine code alive."""
    _share: Callable[..., None] | None = field(default=None, repr=False)
    _task: tuple[int, int] = (0, 0)

    def __call__(self, *addresses: int, threads: int = 1) -> None:
        """Run the kernel on the memory at `addresses`, one for each buffer; nothing is checked."""
        if threads > 1 and self._share is not None:
            self._share(*addresses, *self._task, threads)
        else:
            self.entry(*addresses)


def entry_of(path: Path, cache: Path | None = None) -> str | None:
    """Return the name of the cache entry that a compiled kernel's file is in, None where it is elsewhere."""
    root = default_folder() if cache is None else cache
    whole = path.parent.parent == root and path.name == f"hotbench_{path.parent.name}.py"
    return path.parent.name if whole else None


def load_kernel(name: str, cache: Path | None = None) -> StoredKernel | None:
    """Return the kernel of a cache entry, None where the entry is missing, corrupt or of another machine."""
    entry = (default_folder() if cache is None else cache) / name
    path = entry / f"hotbench_{name}.py"
    if not is_whole(entry):
        return None
    module = load_cached(path)
    if module is None:
        return None
    share, task = None, (0, 0)
    if hasattr(module, f"{FUNCTION}_parallel"):
        found = openmp.pool()
        if isinstance(found, openmp.Pool):
            share = bare_entry(module, f"{FUNCTION}_parallel")
            task = (int(found.table.ctypes.data), int(getattr(module, f"{FUNCTION}_share").address))
    return StoredKernel(path.read_text(), path, bare_entry(module, FUNCTION), share is not None, module, share, task)
