"""Region -> a compiled kernel, from the disk cache where it is there already."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from kernels.compiler import openmp
from kernels.compiler.cache import default_folder, discard, entry_key, is_whole, new_folder, publish
from kernels.compiler.ir import Region
from kernels.compiler.loading import loading_alone
from kernels.compiler.print_numba import print_kernel
from kernels.compiler.verify import verify

FUNCTION = "kernel"


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """A kernel that can be called.

    key:      of the region; source, path: its generated module; compile_seconds: printing, compiling and loading.
    entry:    the bare compiled function `entry(*addresses)`, one thread: the fastest way in.
    parallel: whether `threads` has an effect; where it has none `serial_reason` says why.
    """

    region: Region
    key: str
    source: str
    path: Path
    compile_seconds: float
    from_cache: bool
    entry: Callable[..., None]
    parallel: bool
    serial_reason: str
    _module: ModuleType = field(repr=False)
    """Keeps the machine code alive."""
    _share: Callable[..., None] | None = field(default=None, repr=False)
    _task: tuple[int, int] = (0, 0)

    def __call__(self, *addresses: int, threads: int = 1) -> None:
        """Run the kernel on the memory at `addresses`, one for each buffer of the region.

        Nothing is checked: the memory must hold what the region's buffers say. Raises TypeError on another number
        of addresses.
        """
        if threads > 1 and self._share is not None:
            self._share(*addresses, *self._task, threads)
        else:
            self.entry(*addresses)


def compile_region(region: Region, cache: Path | None = None) -> CompiledKernel:
    """Return the kernel of a region, compiled or from the cache folder (default: HOTBENCH_CACHE, or the user's).

    Raises IrError if the region breaks a rule. A corrupt cache entry is built again; a cache folder that cannot be
    written raises OSError.
    """
    verify(region)
    began = time.perf_counter()
    root = default_folder() if cache is None else cache
    entry = root / entry_key(region)
    file_name = f"hotbench_{entry.name}.py"
    from_cache = is_whole(entry)
    module = load_cached(entry / file_name) if from_cache else None
    if module is None:
        from_cache = False
        module = build_cached(print_kernel(region, FUNCTION).text, entry, file_name)
    return _kernel(region, module, entry / file_name, began, from_cache)


def build_cached(text: str, entry: Path, file_name: str) -> ModuleType:
    """Return the module of a kernel's text, compiled; leave it in the cache as `entry`."""
    prepared = new_folder(entry.parent, entry.name)
    try:
        (prepared / file_name).write_text(text)
        module = import_file(prepared / file_name)
        publish(prepared, entry)
    finally:
        discard(prepared)
    return module


def load_cached(path: Path) -> ModuleType | None:
    """Return the module of a cached entry; None if it cannot be loaded after all (another process replaced it)."""
    try:
        with loading_alone():
            return import_file(path)
    except (OSError, EOFError, ImportError, SyntaxError):
        return None


def import_file(path: Path) -> ModuleType:
    """Return the module at `path`, imported under its file's name: Numba's cache looks it up by that name."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def _kernel(region: Region, module: ModuleType, path: Path, began: float, from_cache: bool) -> CompiledKernel:
    share, task, reason = None, (0, 0), "the region is too small, or one piece: threads would slow it down"
    if hasattr(module, f"{FUNCTION}_parallel"):
        found = openmp.pool()
        if isinstance(found, openmp.Pool):
            share = bare_entry(module, f"{FUNCTION}_parallel")
            task = (int(found.table.ctypes.data), int(getattr(module, f"{FUNCTION}_share").address))
            reason = ""
        else:
            reason = found
    return CompiledKernel(
        region=region,
        key=region.key(),
        source=path.read_text(),
        path=path,
        compile_seconds=time.perf_counter() - began,
        from_cache=from_cache,
        entry=bare_entry(module, FUNCTION),
        parallel=share is not None,
        serial_reason=reason,
        _module=module,
        _share=share,
        _task=task,
    )


def bare_entry(module: ModuleType, name: str) -> Callable[..., None]:
    """Return the compiled function itself: without Numba's choice between signatures a call takes 0.1 us less."""
    overloads: dict[Any, Any] = getattr(module, name).overloads
    (compiled,) = overloads.values()
    entry: Callable[..., None] = compiled.entry_point
    return entry
