"""The pointwise family: a fused elementwise region as a CUDA kernel, its CPU twin and its float64 reference."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels import cuda_kernel, cuda_support
from kernels.compiler.ir import Buffer, Region
from kernels.compiler.print_cuda import print_cuda
from kernels.cuda_kernel import THREADS_PER_BLOCK, KernelSource

BLOCKS_PER_MULTIPROCESSOR = 8


class ArgumentError(ValueError):
    """An argument that does not fit the kernel's buffer; the message names the buffer and what it needs."""


def twin(source: KernelSource, arrays: Sequence[NDArray[Any]]) -> None:
    """Return nothing; run the kernel's own text on the CPU, on one flat array a buffer."""
    cuda_kernel.host_function(source)(*(array.ctypes.data for array in arrays))


def reference(region: Region, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return what the arrays hold after the kernel, every floating value in float64; the arrays stay as they are."""
    # Imported here: the oracle needs SciPy, which an environment that only compiles kernels lacks.
    from kernels.compiler.reference import evaluate

    results: list[NDArray[Any]] = []
    for buffer, array in zip(region.buffers, arrays, strict=True):
        wide = np.float64 if array.dtype.kind == "f" else array.dtype
        results.append(array.astype(wide) if buffer.same_as is None else results[buffer.same_as])
    evaluate(region, results, exact=True)
    return results


class Launcher:
    """Launches one region on the current CUDA device; kernels are compiled once, at first use or by `prepare`."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.sources = print_cuda(region)
        self._compiled: dict[str, Any] = {}

    def prepare(self) -> None:
        """Return nothing; compile and load every form, as a CUDA graph capture needs it beforehand.

        Raises CudaUnavailable where numba-cuda or a device is missing.
        """
        for form in self.sources:
            self._kernel(form)
        _multiprocessors()

    def launch(self, arguments: Sequence[Any], stream: int) -> str:
        """Return the form that was launched, "wide" or "scalar"; the work is queued: keep the arguments until it ran.

        arguments: for each buffer, an address or an object with `__cuda_array_interface__`, contiguous. An address
                   that is not aligned for 128-bit accesses takes the scalar form.
        stream:    handle of the stream to launch on; 0 is the default stream.
        Raises ArgumentError for an argument that does not fit its buffer, CudaUnavailable without a device.
        """
        if len(arguments) != len(self.region.buffers):
            raise ArgumentError(f"{len(arguments)} arguments for {len(self.region.buffers)} buffers; give one for each")
        addresses = tuple(_address(b, a) for b, a in zip(self.region.buffers, arguments, strict=True))
        form = self.choose(addresses)
        cuda = cuda_support.cuda_module()
        items = self.sources[form].work_items
        blocks = min(-(-items // THREADS_PER_BLOCK), BLOCKS_PER_MULTIPROCESSOR * _multiprocessors())
        kernel = self._kernel(form)
        kernel[blocks, THREADS_PER_BLOCK, cuda.external_stream(stream) if stream else 0](*addresses)
        return form

    def choose(self, addresses: tuple[int, ...]) -> str:
        """Return the widest form whose alignment the addresses have.

        Raises ArgumentError for an address that is not even a multiple of its element's size.
        """
        if "wide" in self.sources and self.sources["wide"].accepts(addresses):
            return "wide"
        if self.sources["scalar"].accepts(addresses):
            return "scalar"
        raise ArgumentError(f"an address of {addresses} is no multiple of its element's size; pass element addresses")

    def _kernel(self, form: str) -> Any:
        if form not in self._compiled:
            self._compiled[form] = cuda_kernel.device_kernel(self.sources[form])
        return self._compiled[form]


@functools.cache
def _multiprocessors() -> int:
    cuda_support.require_device()
    return int(cuda_support.cuda_module().get_current_device().MULTIPROCESSOR_COUNT)


def _address(buffer: Buffer, argument: Any) -> int:
    if isinstance(argument, int):
        return argument
    interface = getattr(argument, "__cuda_array_interface__", None)
    if interface is None:
        given = type(argument).__name__
        raise ArgumentError(f"buffer {buffer.name} needs an address or a CUDA array, not {given}; pass a CUDA tensor")
    address, read_only = interface["data"]
    shape, strides = tuple(interface["shape"]), interface.get("strides")
    dtype = np.dtype(interface["typestr"])
    if dtype != np.dtype(buffer.dtype):
        raise ArgumentError(f"buffer {buffer.name} needs {buffer.dtype}, not {dtype}; convert it first")
    if strides is not None and not _is_contiguous(shape, tuple(strides), dtype.itemsize):
        raise ArgumentError(f"buffer {buffer.name} has strides {strides}; pass the address of its storage instead")
    elements = int(np.prod(shape, dtype=np.int64))
    if elements < buffer.elements:
        raise ArgumentError(f"buffer {buffer.name} needs {buffer.elements} elements, not {elements}; pass all of them")
    if buffer.written and read_only:
        raise ArgumentError(f"buffer {buffer.name} is written, but its array is read-only; pass a writable one")
    return int(address)


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...], item_bytes: int) -> bool:
    expected = item_bytes
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True
