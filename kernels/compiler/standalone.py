"""What an exported artifact carries of its kernels: files that load with numba alone, without Hotbench."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from kernels.compiler.attention_ir import AttentionKernel
from kernels.compiler.attention_print import print_attention
from kernels.compiler.convolution_ir import ConvolutionKernel
from kernels.compiler.convolution_print import print_convolution
from kernels.compiler.gather_ir import GatherKernel
from kernels.compiler.gather_print import print_gather
from kernels.compiler.ir import Region
from kernels.compiler.loop_ir import LoopProgram
from kernels.compiler.print_loop import print_loop
from kernels.compiler.print_numba import PACKAGE, print_kernel
from kernels.compiler.product_ir import ProductKernel
from kernels.compiler.product_print import print_product_kernel

Body = Region | ProductKernel | ConvolutionKernel | AttentionKernel | GatherKernel | LoopProgram
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


def render_standalone(kernels: Mapping[str, Body]) -> dict[str, bytes]:
    """Return the files that run `kernels` (by name, of any kind) where numba is installed and Hotbench is not.

    Beside the generated modules and what they import there is LOADER_FILE: its `load(name, threads)` returns the
    kernel, to be called with the address of each buffer.
    """
    modules = {name: f"hotbench_kernel_{kernel.key()}" for name, kernel in kernels.items()}
    texts = {modules[name]: _printed(kernel) for name, kernel in kernels.items()}
    loader = _LOADER.format(kernels=dict(sorted(modules.items())), function=FUNCTION, prefix=PREFIX)
    return {
        LOADER_FILE: loader.encode(),
        **{f"{module}.py": text.encode() for module, text in texts.items()},
        **{f"{PREFIX}{module}.py": text.encode() for module, text in _imported(texts.values()).items()},
    }


def _printed(kernel: Body) -> str:
    if isinstance(kernel, LoopProgram):
        return print_loop(kernel, FUNCTION, prefix=PREFIX)
    if isinstance(kernel, ProductKernel):
        return print_product_kernel(kernel, FUNCTION, prefix=PREFIX).text
    if isinstance(kernel, AttentionKernel):
        return print_attention(kernel, FUNCTION, prefix=PREFIX).text
    if isinstance(kernel, GatherKernel):
        return print_gather(kernel, FUNCTION, prefix=PREFIX).text
    if isinstance(kernel, ConvolutionKernel):
        return print_convolution(kernel, FUNCTION, prefix=PREFIX).text
    return print_kernel(kernel, FUNCTION, prefix=PREFIX).text


def _imported(texts: Iterable[str]) -> dict[str, str]:
    """Return the modules of this package that generated texts import, themselves or through each other."""
    found: dict[str, str] = {}
    # The loader takes its threads from openmp.
    waiting = ["openmp", "intrinsics", "prelude", *(name for text in texts for name in _IMPORT.findall(text))]
    while waiting:
        module = waiting.pop()
        if module not in found:
            text = Path(__file__).with_name(f"{module}.py").read_text()
            found[module] = text.replace(f"from {PACKAGE}", f"from {PREFIX}")
            waiting += _IMPORT.findall(found[module])
    return found


_IMPORT = re.compile(rf"^(?:from|import) {PREFIX}(\w+)", re.MULTILINE)
