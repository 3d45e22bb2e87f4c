"""The compiled modules of quantized products: built at first use, kept in the disk cache of generated kernels."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType

from kernels.compiler import openmp
from kernels.compiler.cache import default_folder, is_whole, toolchain
from kernels.compiler.compile import bare_entry, build_cached, load_cached
from kernels.quantized.cpu_source import FUNCTION

_one_at_a_time = threading.Lock()
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
    _module: ModuleType = field(repr=False)
    """Keeps the machine code alive."""

    def run(self, arguments: tuple[int, ...], threads: int) -> str:
        """Compute one product; return why it ran on one thread although more were asked for, or nothing."""
        if threads > 1:
            found = openmp.pool()
            if isinstance(found, openmp.Pool):
                self.parallel(*arguments, int(found.table.ctypes.data), self.share, threads)
                return ""
            self.entry(*arguments)
            return found
        self.entry(*arguments)
        return ""


def compiled_family(kind: str, text: str, folder: Path | None = None) -> CompiledFamily:
    """Return the module of a text, compiled or from the cache folder (default: that of generated kernels).

    A cache folder that cannot be written raises OSError.
    """
    with _one_at_a_time:
        return _family(kind, text, default_folder() if folder is None else folder)


@cache
def _family(kind: str, text: str, root: Path) -> CompiledFamily:
    key = "\n".join(("quantized", text, *toolchain(), _sources_hash()))
    entry = root / hashlib.sha256(key.encode()).hexdigest()[:24]
    path = entry / f"hotbench_{entry.name}.py"
    module = load_cached(path) if is_whole(entry) else None
    if module is None:
        module = build_cached(text, entry, path.name)
    return CompiledFamily(
        kind=kind,
        path=path,
        entry=bare_entry(module, FUNCTION),
        parallel=bare_entry(module, f"{FUNCTION}_parallel"),
        quantise=bare_entry(module, "quantise"),
        share=int(getattr(module, f"{FUNCTION}_share").address),
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
