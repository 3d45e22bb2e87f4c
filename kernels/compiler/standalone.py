"""What an exported artifact carries of its kernels: files that load with numba alone, without Hotbench."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kernels.compiler.ir import Region
from kernels.compiler.loop_ir import LoopProgram
from kernels.compiler.print_loop import PRODUCT_MODULES, print_loop
from kernels.compiler.print_numba import PACKAGE, print_kernel

FUNCTION = "kernel"
PREFIX = "hotbench_"
LOADER_FILE = "hotbench_kernels.py"

_LOADER = '''"""Loads the kernels beside this file. Needs numba; compiles on the first use, then from Numba's cache."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

KERNELS = {kernels!r}


def load(name, threads=1):
    """Return the kernel `name` of KERNELS: call it with the address of each buffer, in order, as integers.

    threads: how many the kernel may use; small kernels, and processes without an OpenMP library, use one.
    """
    folder = str(Path(__file__).resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = importlib.import_module(KERNELS[name])
    if threads > 1 and hasattr(module, "{function}_parallel"):
        pool = importlib.import_module("{prefix}openmp").pool()
        if not isinstance(pool, str):
            run, table = _entry(module.{function}_parallel), int(pool.table.ctypes.data)
            return lambda *addresses: run(*addresses, table, module.{function}_share.address, threads)
    return _entry(module.{function})


def _entry(function):
    (compiled,) = function.overloads.values()
    return compiled.entry_point
'''


def render_standalone(kernels: Mapping[str, Region | LoopProgram]) -> dict[str, bytes]:
    """Return the files that run `kernels` (name -> region or loop) where numba is installed and Hotbench is not.

    Beside the generated modules and what they import there is LOADER_FILE: its `load(name, threads)` returns the
    kernel, to be called with the address of each buffer.
    """
    modules = {name: f"hotbench_kernel_{kernel.key()}" for name, kernel in kernels.items()}
    files = {
        f"{PREFIX}intrinsics.py": _shipped("intrinsics"),
        f"{PREFIX}prelude.py": _shipped("prelude"),
        f"{PREFIX}openmp.py": _shipped("openmp"),
        LOADER_FILE: _LOADER.format(kernels=dict(sorted(modules.items())), function=FUNCTION, prefix=PREFIX).encode(),
    }
    for name, kernel in kernels.items():
        if isinstance(kernel, LoopProgram):
            text = print_loop(kernel, FUNCTION, prefix=PREFIX)
            files |= {f"{PREFIX}{module}.py": _shipped(module) for module in PRODUCT_MODULES}
        else:
            text = print_kernel(kernel, FUNCTION, prefix=PREFIX).text
        files[f"{modules[name]}.py"] = text.encode()
    return files


def _shipped(module: str) -> bytes:
    """Return the source of a module of this package, importing from the copies beside it."""
    text = Path(__file__).with_name(f"{module}.py").read_text()
    return text.replace(f"from {PACKAGE}", f"from {PREFIX}").encode()
