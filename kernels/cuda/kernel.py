"""A CUDA kernel as text, bound to the device, to the host as its CPU twin, or to the simulator.

The same text runs in all three places; only what its global names mean differs. A kernel takes addresses, and int64
numbers behind them, and reaches memory through the functions of kernels/cuda/memory.py. It may call those of
cuda_scalar.py, cuda_choice.py and cuda_bits.py, and `cuda`, warp_sum and the like of cuda_threads.py, which a CPU
twin has not; mma_int8 of cuda_matrix.py neither.
"""

from __future__ import annotations

import functools
import importlib
import linecache
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.cuda import bits as cuda_bits
from kernels.cuda import choice as cuda_choice
from kernels.cuda import matrix as cuda_matrix
from kernels.cuda import memory as cuda_memory
from kernels.cuda import scalar as cuda_scalar
from kernels.cuda import simulated as cuda_simulated
from kernels.cuda import support as cuda_support
from kernels.cuda import threads as cuda_threads
from kernels.quantized import arithmetic as quantized_arithmetic
from kernels.quantized import byte_arithmetic as quantized_bytes

THREADS_PER_BLOCK = 256
SCALAR_TYPES = ("float32", "float64", "int8", "int32", "int64", "uint8", "uint16", "uint32")


@dataclass(frozen=True, slots=True)
class KernelSource:
    """A kernel's text and how it is called.

    text:        Python for Numba-CUDA, defining a function `entry` whose parameters are addresses, then numbers.
    alignment:   for each address, the bytes that it must be a multiple of.
    work_items:  how many threads have work; a grid with more or fewer threads gives the same result, unless the
                 kernel's family says otherwise.
    host_text:   the same function as one host thread runs it (the CPU twin).
    scalars:     how many int64 numbers follow the addresses.
    cooperative: the kernel has a grid barrier: its blocks must all run at once.
    threads:     the most threads a block is launched with, where that bounds a thread's registers.
    exact_threads: a block must have exactly `threads` threads; else any number of whole warps up to that.
    """

    entry: str
    text: str
    host_text: str
    alignment: tuple[int, ...]
    work_items: int
    scalars: int = 0
    cooperative: bool = False
    threads: int | None = None
    exact_threads: bool = False

    def accepts(self, addresses: tuple[int, ...]) -> bool:
        """Return whether each address has the alignment that the kernel's accesses need."""
        return all(address % needed == 0 for address, needed in zip(addresses, self.alignment, strict=True))


def device_function(source: KernelSource) -> Callable[..., None]:
    """Return the kernel as a Python function for numba-cuda to compile.

    Raises CudaUnavailable where numba-cuda is absent.
    """
    return _define(source.entry, source.text, _device_names())


@functools.lru_cache(maxsize=64)
def host_function(source: KernelSource) -> Callable[..., None]:
    """Return the CPU twin: the kernel's own text, compiled by Numba, run by one thread on host addresses."""
    from numba import njit

    compiled: Callable[..., None] = njit(error_model="numpy")(_define(source.entry, source.host_text, _host_names()))
    return compiled


def run_twin(source: KernelSource, arguments: Sequence[NDArray[Any] | int]) -> None:
    """Return nothing; run the CPU twin on one flat array for each address, then the numbers."""
    host_function(source)(*(a if isinstance(a, int) else a.ctypes.data for a in arguments))


def simulated_function(source: KernelSource) -> Callable[..., None]:
    """Return the kernel for numba-cuda's simulator; its arguments are SimulatedMemory in the place of addresses."""
    return _define(source.entry, source.text, _simulated_names())


def device_kernel(source: KernelSource) -> Any:
    """Return the kernel compiled for the current device and loaded; launch it as kernel[blocks, threads, stream](…).

    Raises CudaUnavailable where numba-cuda or a device is missing.
    """
    cuda_support.require_device()
    options = {"launch_bounds": source.threads} if source.threads else {}
    kernel = cuda_support.cuda_module().jit(signature(source), **options)(device_function(source))
    for compiled in kernel.overloads.values():
        compiled.cooperative = source.cooperative  # as its launches read it
    return kernel


def signature(source: KernelSource) -> Any:
    """Return the kernel's Numba signature: each address is an int64, as each number is."""
    types = _cuda_types()
    return types.void(*[types.int64] * (len(source.alignment) + source.scalars))


def _define(entry: str, text: str, names: dict[str, Any]) -> Callable[..., None]:
    filename = f"<kernel {entry} {hash(text) & 0xFFFFFFFF:08x}>"
    # A traceback into generated code shows its lines.
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    scope = dict(names)
    exec(compile(text, filename, "exec"), scope)
    function: Callable[..., None] = scope[entry]
    return function


def _cuda_types() -> Any:
    return importlib.import_module("numba.cuda.types")


@functools.cache
def _device_names() -> dict[str, Any]:
    cuda = cuda_support.cuda_module()
    from numba.cuda import libdevice
    from numba.cuda.extending import intrinsic

    types = _cuda_types()
    memory = cuda_memory.compiled_memory(intrinsic, types, cuda_memory.GLOBAL_SPACE)
    scalars = cuda_scalar.device_scalars(cuda, libdevice, intrinsic, types)
    bits = cuda_bits.device_bits(cuda, intrinsic, types)
    return (
        _constants(types)
        | cuda_choice.compiled_choices(intrinsic, types)
        | memory
        | scalars
        | bits
        | cuda_threads.device_threads(cuda, intrinsic, types)
        | cuda_matrix.device_matrix(intrinsic, types)
        | quantized_arithmetic.compiled_arithmetic(intrinsic, types, device=True)
        | quantized_bytes.compiled_bytes(intrinsic, types, device=True)
        | {"cuda": cuda}
    )


@functools.cache
def _host_names() -> dict[str, Any]:
    from numba import njit, types
    from numba.extending import intrinsic

    compile_function = functools.partial(njit, error_model="numpy")
    memory = cuda_memory.compiled_memory(intrinsic, types, cuda_memory.HOST_SPACE)
    scalars = cuda_scalar.host_scalars(compile_function, intrinsic, types)
    bits = cuda_bits.host_bits(compile_function, intrinsic, types)
    quantized = quantized_arithmetic.compiled_arithmetic(intrinsic, types, device=False)
    quantized |= quantized_bytes.compiled_bytes(intrinsic, types, device=False)
    choices = cuda_choice.compiled_choices(intrinsic, types)
    return _constants(types) | choices | memory | scalars | bits | quantized


def _simulated_names() -> dict[str, Any]:
    memory, scalars = cuda_simulated.simulated_memory(), cuda_scalar.simulated_scalars()
    names = _constants(np) | memory | scalars | cuda_bits.simulated_bits() | cuda_threads.simulated_threads()
    names |= cuda_choice.simulated_choices() | cuda_matrix.simulated_matrix() | quantized_bytes.simulated_bytes()
    return names | quantized_arithmetic.simulated_arithmetic() | {"cuda": cuda_support.cuda_module()}


def _constants(types: Any) -> dict[str, Any]:
    scalars = {name: getattr(types, name) for name in SCALAR_TYPES}
    return scalars | {"INFINITY": math.inf, "NAN": math.nan}
