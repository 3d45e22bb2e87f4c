"""A kernel by the name of its cache entry alone: whatever kind it is, nothing is printed or checked anew."""

from __future__ import annotations

from pathlib import Path

from kernels.compiler.cache import default_folder, is_whole
from kernels.compiler.loaded import LoadedKernel, load_cached, parts_of


def entry_of(path: Path, cache: Path | None = None) -> str | None:
    """Return the name of the cache entry that a compiled kernel's file is in, None where it is elsewhere."""
    root = default_folder() if cache is None else cache
    whole = path.parent.parent == root and path.name == f"hotbench_{path.parent.name}.py"
    return path.parent.name if whole else None


def load_kernel(name: str, cache: Path | None = None) -> LoadedKernel | None:
    """Return the kernel of a cache entry, None where the entry is missing, corrupt or of another machine."""
    entry = (default_folder() if cache is None else cache) / name
    path = entry / f"hotbench_{name}.py"
    if not is_whole(entry):
        return None
    module = load_cached(path)
    return None if module is None else LoadedKernel(**parts_of(module, path, "it was made for one thread"))
