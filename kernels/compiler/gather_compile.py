"""GatherKernel -> a compiled kernel, from the disk cache where it is there already."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from kernels.compiler.cache import compiler_hash, default_folder, is_whole, toolchain
from kernels.compiler.compile import FUNCTION, bare_entry, build_cached, load_cached
from kernels.compiler.gather_ir import GatherKernel, verify_gather
from kernels.compiler.gather_print import print_gather


@dataclass(frozen=True, slots=True)
class CompiledGather:
    """A gather that can be called: `entry(*addresses)`; it raises IndexError for an index that is no row."""

    kernel: GatherKernel
    key: str
    source: str
    path: Path
    compile_seconds: float
    from_cache: bool
    entry: Callable[..., None]
    _module: ModuleType = field(repr=False)
    """Keeps the machine code alive."""
    parallel: ClassVar[bool] = False
    serial_reason: ClassVar[str] = "copying rows takes as long as memory does, on any number of threads"


def compile_gather(kernel: GatherKernel, cache: Path | None = None) -> CompiledGather:
    """Return a kernel, compiled or from the cache folder (default: that of regions).

    Raises IrError if it breaks a rule; a cache folder that cannot be written raises OSError.
    """
    verify_gather(kernel)
    began = time.perf_counter()
    text = print_gather(kernel, FUNCTION).text
    key = "\n".join(("gather", text, *toolchain(), compiler_hash()))
    entry = (default_folder() if cache is None else cache) / hashlib.sha256(key.encode()).hexdigest()[:24]
    path = entry / f"hotbench_{entry.name}.py"
    from_cache = is_whole(entry)
    module = load_cached(path) if from_cache else None
    if module is None:
        from_cache = False
        module = build_cached(text, entry, path.name)
    seconds = time.perf_counter() - began
    return CompiledGather(kernel, kernel.key(), text, path, seconds, from_cache, bare_entry(module, FUNCTION), module)
