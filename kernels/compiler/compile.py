"""A kernel of any kind -> one that can be called, from the disk cache where it is there already."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from kernels.compiler import openmp
from kernels.compiler.cache import default_folder, entry_key, is_whole
from kernels.compiler.kinds import ALONE, SHARED_LOOP, Body, Kind, kind_of
from kernels.compiler.loaded import FUNCTION, LoadedKernel, build_cached, load_cached, parts_of
from kernels.compiler.loop_ir import LoopProgram
from kernels.compiler.loop_shared import worth_sharing


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledKernel(LoadedKernel):
    """A kernel that was compiled, or would have been.

    key: of what it computes; compile_seconds: printing, compiling and loading.
    """

    key: str
    compile_seconds: float
    from_cache: bool


def compile_kernel(kernel: Body | LoopProgram, cache: Path | None = None, threads: int | None = None) -> CompiledKernel:
    """Return a kernel, compiled or from the cache folder (default: HOTBENCH_CACHE, or the user's).

    threads: how many will run it; with 1 it is made for one, which takes half the time. By default loops are made for
    one, and everything else for any number.
    Raises IrError if the kernel breaks a rule. A corrupt cache entry is built again; a cache folder that cannot be
    written raises OSError.
    """
    kind = _made_as(kernel, threads)
    kind.verify(kernel)
    began = time.perf_counter()
    entry, text = _entry(kernel, kind, cache)
    path = entry / f"hotbench_{entry.name}.py"
    module = load_cached(path) if is_whole(entry) else None
    from_cache = module is not None
    if module is None:
        module = build_cached(text or kind.printed(kernel, FUNCTION), entry, path.name)
    parts = parts_of(module, path, kind.serial_reason)
    seconds = time.perf_counter() - began
    return CompiledKernel(key=kernel.key(), compile_seconds=seconds, from_cache=from_cache, **parts)


def is_compiled(kernel: Body | LoopProgram, cache: Path | None = None, threads: int | None = None) -> bool:
    """Return whether `compile_kernel` would find the kernel in the cache folder. Raises IrError as it does."""
    kind = _made_as(kernel, threads)
    kind.verify(kernel)
    return is_whole(_entry(kernel, kind, cache)[0])


def _entry(kernel: Body | LoopProgram, kind: Kind, cache: Path | None) -> tuple[Path, str | None]:
    """Return the cache entry of a kernel, and its text where the entry depends on it."""
    text = kind.printed(kernel, FUNCTION) if kind.cut_by_machine else None
    name = entry_key(kind.name, text or kernel.key(), kind.sources)
    return (default_folder() if cache is None else cache) / name, text


def _made_as(kernel: Body | LoopProgram, threads: int | None) -> Kind:
    """Return the kind that a kernel is compiled as: what one thread runs, and shared loops, have one of their own."""
    if threads == 1:
        return ALONE.get(type(kernel), kind_of(kernel))
    if threads is not None and isinstance(kernel, LoopProgram) and worth_sharing(kernel):
        return SHARED_LOOP if isinstance(openmp.pool(), openmp.Pool) else kind_of(kernel)
    return kind_of(kernel)
