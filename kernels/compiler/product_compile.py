"""ProductKernel -> a compiled kernel, from the disk cache where it is there already."""

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
from kernels.compiler.product_ir import ProductKernel, verify_product
from kernels.compiler.product_print import print_product_kernel


@dataclass(frozen=True, slots=True)
class CompiledProduct:
    """A product with its region that can be called, as a CompiledKernel can."""

    kernel: ProductKernel
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
        """Run the kernel on the memory at `addresses`, one for each of its buffers."""
        if threads > 1 and self._share is not None:
            self._share(*addresses, *self._task, threads)
        else:
            self.entry(*addresses)


def compile_product(kernel: ProductKernel, cache: Path | None = None) -> CompiledProduct:
    """Return a kernel, compiled or from the cache folder (default: that of regions).

    Raises IrError if it breaks a rule; a cache folder that cannot be written raises OSError.
    """
    verify_product(kernel)
    began = time.perf_counter()
    text = print_product_kernel(kernel, FUNCTION).text
    # The text says how the product is cut, which the key of the kernel leaves open.
    key = "\n".join(("product", text, *toolchain(), compiler_hash(), _tiles_hash()))
    entry = (default_folder() if cache is None else cache) / hashlib.sha256(key.encode()).hexdigest()[:24]
    path = entry / f"hotbench_{entry.name}.py"
    from_cache = is_whole(entry)
    module = load_cached(path) if from_cache else None
    if module is None:
        from_cache = False
        module = build_cached(text, entry, path.name)
    return _compiled(kernel, module, path, began, from_cache)


def _compiled(kernel: ProductKernel, module: ModuleType, path: Path, began: float, from_cache: bool) -> CompiledProduct:
    share, task, reason = None, (0, 0), "the product is too small, or one piece: threads would slow it down"
    if hasattr(module, f"{FUNCTION}_parallel"):
        found = openmp.pool()
        if isinstance(found, openmp.Pool):
            share = bare_entry(module, f"{FUNCTION}_parallel")
            task = (int(found.table.ctypes.data), int(getattr(module, f"{FUNCTION}_share").address))
            reason = ""
        else:
            reason = found
    return CompiledProduct(
        kernel=kernel,
        key=kernel.key(),
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


@cache
def _tiles_hash() -> str:
    """Return a hash of the modules that the text of a kernel takes its tiles from."""
    digest = hashlib.sha256()
    for path in sorted((*Path(__file__).parent.glob("gemm*.py"), *Path(__file__).parent.glob("product_*.py"))):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
