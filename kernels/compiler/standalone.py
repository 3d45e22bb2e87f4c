"""What an exported artifact carries of its kernels: files that load with numba alone, without Hotbench."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kernels.compiler.ir import Region
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


def load(name):
    """Return the kernel `name` of KERNELS: call it with the address of each buffer, in order, as integers."""
    folder = str(Path(__file__).resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    function = getattr(importlib.import_module(KERNELS[name]), "{function}")
    (compiled,) = function.overloads.values()
    return compiled.entry_point
'''


def render_standalone(kernels: Mapping[str, Region]) -> dict[str, bytes]:
    """Return the files that run `kernels` (name -> region) where numba is installed and Hotbench is not.

    Beside the generated modules, the prelude and its intrinsics there is LOADER_FILE: its `load(name)` returns the kernel, one thread,
    to be called with the address of each buffer.
    """
    modules = {name: f"hotbench_kernel_{region.key()}" for name, region in kernels.items()}
    files = {
        f"{PREFIX}intrinsics.py": _shipped("intrinsics"),
        f"{PREFIX}prelude.py": _shipped("prelude"),
        LOADER_FILE: _LOADER.format(kernels=dict(sorted(modules.items())), function=FUNCTION).encode(),
    }
    for name, region in kernels.items():
        printed = print_kernel(region, FUNCTION, prefix=PREFIX)
        files[f"{modules[name]}.py"] = printed.text.encode()
    return files


def _shipped(module: str) -> bytes:
    """Return the source of a module of this package, importing from the copies beside it."""
    text = Path(__file__).with_name(f"{module}.py").read_text()
    return text.replace(f"from {PACKAGE}", f"from {PREFIX}").encode()
