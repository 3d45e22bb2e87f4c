"""LoopProgram -> a compiled kernel, from the disk cache where it is there already."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType

from kernels.compiler import openmp
from kernels.compiler.cache import compiler_hash, default_folder, is_whole, toolchain
from kernels.compiler.compile import FUNCTION, bare_entry, build_cached, load_cached
from kernels.compiler.loop_ir import LoopProgram
from kernels.compiler.loop_shared import worth_sharing
from kernels.compiler.loop_verify import verify_loop
from kernels.compiler.print_loop import print_loop


@dataclass(frozen=True, slots=True)
class CompiledLoop:
    """A loop that can be called: `entry(*addresses)`, one for each buffer of the program, runs it on one thread.

    parallel: whether `threads` has an effect where the loop itself is called.
    """

    program: LoopProgram
    key: str
    source: str
    path: Path
    compile_seconds: float
    from_cache: bool
    entry: Callable[..., None]
    _module: ModuleType = field(repr=False)
    """Keeps the machine code alive."""
    parallel: bool = False
    _share: Callable[..., None] | None = field(default=None, repr=False)
    _task: tuple[int, int] = (0, 0)

    def __call__(self, *addresses: int, threads: int = 1) -> None:
        """Run the loop on the memory at `addresses`, one for each buffer; nothing is checked."""
        if threads > 1 and self._share is not None:
            self._share(*addresses, *self._task, threads)
        else:
            self.entry(*addresses)


def compile_loop(program: LoopProgram, cache: Path | None = None, threads: int = 1) -> CompiledLoop:
    """Return the kernel of a loop program, compiled or from the cache folder (default: that of regions).

    threads: how many are there to share a trip; with 1 the kernel is made for one, which takes half the time.
    Raises IrError if the program breaks a rule; a cache folder that cannot be written raises OSError.
    """
    verify_loop(program)
    pool = openmp.pool() if threads > 1 and worth_sharing(program) else ""
    shared = isinstance(pool, openmp.Pool)
    began = time.perf_counter()
    text = "\n".join(
        ("loops shared" if shared else "loop", program.key(), *toolchain(), compiler_hash(), _printer_hash())
    )
    entry = (default_folder() if cache is None else cache) / hashlib.sha256(text.encode()).hexdigest()[:24]
    path = entry / f"hotbench_{entry.name}.py"
    from_cache = is_whole(entry)
    module = load_cached(path) if from_cache else None
    if module is None:
        from_cache = False
        module = build_cached(print_loop(program, FUNCTION, shared=shared), entry, path.name)
    seconds = time.perf_counter() - began
    found = (program, program.key(), path.read_text(), path, seconds, from_cache, bare_entry(module, FUNCTION), module)
    if not isinstance(pool, openmp.Pool):
        return CompiledLoop(*found)
    task = (int(pool.table.ctypes.data), int(getattr(module, f"{FUNCTION}_share").address))
    return CompiledLoop(*found, True, bare_entry(module, f"{FUNCTION}_parallel"), task)


@cache
def _printer_hash() -> str:
    """Return a hash of the modules that make loops, beside those that make regions."""
    digest = hashlib.sha256()
    for pattern in ("loop_*.py", "print_loop.py", "gemm*.py"):
        for path in sorted(Path(__file__).parent.glob(pattern)):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
