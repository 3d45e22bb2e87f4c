"""Generated modules: compiled into the disk cache, loaded from it, and the kernel that one of them holds."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from kernels.compiler import openmp
from kernels.compiler.cache import discard, new_folder, publish
from kernels.compiler.loading import loading_alone

FUNCTION = "kernel"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedKernel:
    """A kernel that can be called.

    source, path: its generated module.
    entry:    the bare compiled function `entry(*addresses)`, one thread: the fastest way in.
    parallel: whether `threads` has an effect; where it has none `serial_reason` says why.
    """

    source: str
    path: Path
    entry: Callable[..., None]
    parallel: bool
    serial_reason: str
    _module: ModuleType = field(repr=False)
    """Keeps the machine code alive."""
    _share: Callable[..., None] | None = field(default=None, repr=False)
    _task: tuple[int, int] = (0, 0)

    def __call__(self, *addresses: int, threads: int = 1) -> None:
        """Run the kernel on the memory at `addresses`, one for each of its buffers.

        Nothing is checked: the memory must hold what the kernel's buffers say. Raises TypeError on another number
        of addresses.
        """
        if threads > 1 and self._share is not None:
            self._share(*addresses, *self._task, threads)
        else:
            self.entry(*addresses)


def parts_of(module: ModuleType, path: Path, serial_reason: str) -> dict[str, Any]:
    """Return the fields of the LoadedKernel in a module; serial_reason: why one without shares has none."""
    share, task = None, (0, 0)
    if hasattr(module, f"{FUNCTION}_parallel"):
        found = openmp.pool()
        if isinstance(found, openmp.Pool):
            share = bare_entry(module, f"{FUNCTION}_parallel")
            task = (int(found.table.ctypes.data), int(getattr(module, f"{FUNCTION}_share").address))
        serial_reason = found if isinstance(found, str) else ""
    return {
        "source": path.read_text(),
        "path": path,
        "entry": bare_entry(module, FUNCTION),
        "parallel": share is not None,
        "serial_reason": serial_reason,
        "_module": module,
        "_share": share,
        "_task": task,
    }


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


def bare_entry(module: ModuleType, name: str) -> Callable[..., None]:
    """Return the compiled function itself: without Numba's choice between signatures a call takes 0.1 us less."""
    overloads: dict[Any, Any] = getattr(module, name).overloads
    (compiled,) = overloads.values()
    entry: Callable[..., None] = compiled.entry_point
    return entry
