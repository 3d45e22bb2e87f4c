"""What an exported artifact carries of its kernels: files that load with numba alone, without Hotbench."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from kernels.compiler.kinds import Body, kind_of
from kernels.compiler.loaded import FUNCTION
from kernels.compiler.loop_ir import LoopProgram

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


def render_standalone(kernels: Mapping[str, Body | LoopProgram]) -> dict[str, bytes]:
    """Return the files that run `kernels` (by name, of any kind) where numba is installed and Hotbench is not.

    Beside the generated modules and what they import there is LOADER_FILE: its `load(name, threads)` returns the
    kernel, to be called with the address of each buffer.
    """
    modules = {name: f"hotbench_kernel_{kernel.key()}" for name, kernel in kernels.items()}
    texts = {
        modules[name]: kind_of(kernel).printed(kernel, FUNCTION, prefix=PREFIX) for name, kernel in kernels.items()
    }
    loader = _LOADER.format(kernels=dict(sorted(modules.items())), function=FUNCTION, prefix=PREFIX)
    return {
        LOADER_FILE: loader.encode(),
        **{f"{module}.py": text.encode() for module, text in texts.items()},
        **{f"{PREFIX}{module}.py": text.encode() for module, text in _imported(texts.values()).items()},
    }


def _imported(texts: Iterable[str]) -> dict[str, str]:
    """Return the modules of this package that generated texts import, themselves or through each other."""
    found: dict[str, str] = {}
    # The loader takes its threads from openmp.
    waiting = ["openmp", "intrinsics", "prelude", *(name for text in texts for name in _IMPORT.findall(text))]
    while waiting:
        module = waiting.pop()
        if module not in found:
            text = _source_of(module).read_text()
            found[module] = re.sub(r"^from kernels\.(compiler|quantized)\.", f"from {PREFIX}", text, flags=re.MULTILINE)
            waiting += _IMPORT.findall(found[module])
    return found


def _source_of(module: str) -> Path:
    """Return a module of this package, or one of those that quantized products are made of."""
    own = Path(__file__).with_name(f"{module}.py")
    return own if own.is_file() else own.parents[1] / "quantized" / own.name


_IMPORT = re.compile(rf"^(?:from|import) {PREFIX}(\w+)", re.MULTILINE)
