"""A CUDA kernel as text, bound to the device, to the host as its CPU twin, or to the simulator.

The same text runs in all three places; only what its global names mean differs. A kernel takes addresses and reaches
memory through the functions of kernels/cuda_memory.py.
"""

from __future__ import annotations

import functools
import importlib
import linecache
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels import cuda_memory, cuda_scalar, cuda_support

THREADS_PER_BLOCK = 256


@dataclass(frozen=True, slots=True)
class KernelSource:
    """A kernel's text and how it is called.

    text:       Python for Numba-CUDA, defining a function `entry` whose parameters are addresses.
    alignment:  for each parameter, the bytes that its address must be a multiple of.
    work_items: how many threads have work; a grid with more or fewer threads gives the same result.
    host_text:  the same function as one host thread runs it (the CPU twin).
    """

    entry: str
    text: str
    host_text: str
    alignment: tuple[int, ...]
    work_items: int

    def accepts(self, addresses: tuple[int, ...]) -> bool:
        """Return whether each address has the alignment that the kernel's accesses need."""
        return all(address % needed == 0 for address, needed in zip(addresses, self.alignment, strict=True))


def device_function(source: KernelSource) -> Callable[..., None]:
    """Return the kernel as a Python function for numba-cuda to compile.

    Raises CudaUnavailable where numba-cuda is absent.
    """
    return _define(source.entry, source.text, _device_names())


def host_function(source: KernelSource) -> Callable[..., None]:
    """Return the CPU twin: the kernel's own text, compiled by Numba, run by one thread on host addresses."""
    from numba import njit

    compiled: Callable[..., None] = njit(error_model="numpy")(_define(source.entry, source.host_text, _host_names()))
    return compiled


def simulated_function(source: KernelSource) -> Callable[..., None]:
    """Return the kernel for numba-cuda's simulator; its arguments are SimulatedMemory in the place of addresses."""
    return _define(source.entry, source.text, _simulated_names())


def device_kernel(source: KernelSource) -> Any:
    """Return the kernel compiled for the current device and loaded; launch it as kernel[blocks, threads, stream](…).

    Raises CudaUnavailable where numba-cuda or a device is missing.
    """
    cuda_support.require_device()
    return cuda_support.cuda_module().jit(signature(source))(device_function(source))


def signature(source: KernelSource) -> Any:
    """Return the kernel's Numba signature: each address is an int64."""
    types = _cuda_types()
    return types.void(*[types.int64] * len(source.alignment))


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
    return _constants(types) | memory | scalars | {"cuda": cuda}


@functools.cache
def _host_names() -> dict[str, Any]:
    from numba import njit, types
    from numba.extending import intrinsic

    memory = cuda_memory.compiled_memory(intrinsic, types, cuda_memory.HOST_SPACE)
    return (
        _constants(types)
        | memory
        | cuda_scalar.host_scalars(functools.partial(njit, error_model="numpy"), intrinsic, types)
    )


def _simulated_names() -> dict[str, Any]:
    memory, scalars = cuda_memory.simulated_memory(), cuda_scalar.simulated_scalars()
    return _constants(np) | memory | scalars | {"cuda": cuda_support.cuda_module()}


def _constants(types: Any) -> dict[str, Any]:
    scalars = {name: getattr(types, name) for name in ("float32", "float64", "int32", "int64")}
    return scalars | {"INFINITY": math.inf, "NAN": math.nan}
