"""AttentionKernel -> a compiled kernel, from the disk cache where it is there already."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType

from kernels.compiler import openmp
from kernels.compiler.attention_ir import AttentionKernel, verify_attention
from kernels.compiler.attention_print import print_attention
from kernels.compiler.cache import compiler_hash, default_folder, is_whole, toolchain
from kernels.compiler.compile import FUNCTION, bare_entry, build_cached, load_cached


@dataclass(frozen=True, slots=True)
class CompiledAttention:
    """An attention that can be called: `entry(*addresses)`, one for each buffer, on one thread.

    parallel: whether `threads` has an effect; where it has none `serial_reason` says why.
    """

    kernel: AttentionKernel
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
        """Run the kernel on the memory at `addresses`, which nothing checks."""
        if threads > 1 and self._share is not None:
            self._share(*addresses, *self._task, threads)
        else:
            self.entry(*addresses)


def compile_attention(kernel: AttentionKernel, cache: Path | None = None) -> CompiledAttention:
    """Return a kernel, compiled or from the cache folder (default: that of regions).

    Raises IrError if it breaks a rule; a cache folder that cannot be written raises OSError.
    """
    verify_attention(kernel)
    began = time.perf_counter()
    text = print_attention(kernel, FUNCTION).text
    lines = "\n".join(("attention", text, *toolchain(), compiler_hash(), _printer_hash()))
    entry = (default_folder() if cache is None else cache) / hashlib.sha256(lines.encode()).hexdigest()[:24]
    path = entry / f"hotbench_{entry.name}.py"
    from_cache = is_whole(entry)
    module = load_cached(path) if from_cache else None
    if module is None:
        from_cache = False
        module = build_cached(text, entry, path.name)
    share, task, reason = _threads(module)
    return CompiledAttention(
        kernel,
        kernel.key(),
        path.read_text(),
        path,
        time.perf_counter() - began,
        from_cache,
        bare_entry(module, FUNCTION),
        share is not None,
        reason,
        module,
        share,
        task,
    )


def _threads(module: ModuleType) -> tuple[Callable[..., None] | None, tuple[int, int], str]:
    if not hasattr(module, f"{FUNCTION}_parallel"):
        return None, (0, 0), "the attention is too small, or one piece: threads would slow it down"
    found = openmp.pool()
    if not isinstance(found, openmp.Pool):
        return None, (0, 0), found
    task = (int(found.table.ctypes.data), int(getattr(module, f"{FUNCTION}_share").address))
    return bare_entry(module, f"{FUNCTION}_parallel"), task, ""


@cache
def _printer_hash() -> str:
    """Return a hash of the modules that print tiles, which the text of a kernel imports."""
    digest = hashlib.sha256()
    for pattern in ("gemm*.py", "attention_rows.py"):
        for path in sorted(Path(__file__).parent.glob(pattern)):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
