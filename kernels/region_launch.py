"""Launches any region of the compiler on a CUDA device, and runs its CPU twin and its float64 reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiler.ir import Region
from kernels.compiler.print_cuda import print_cuda
from kernels.cuda import kernel as cuda_kernel
from kernels.cuda import launch as cuda_launch
from kernels.cuda.kernel import THREADS_PER_BLOCK, KernelSource
from kernels.cuda.launch import DeviceKernels, addresses_of

THREADS_PER_MULTIPROCESSOR = 2048  # a larger grid would only queue; its threads take the rest in turns
FORMS = ("wide", "scalar")  # the first that the addresses allow is launched


def twin(source: KernelSource, arrays: Sequence[NDArray[Any]]) -> None:
    """Return nothing; run the kernel's own arithmetic on the CPU, on one flat array a buffer."""
    cuda_kernel.run_twin(source, arrays)


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


class RegionLauncher:
    """Launches one region on the current CUDA device; kernels are compiled once, at first use or by `prepare`."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.sources = print_cuda(region)
        self._kernels = DeviceKernels({form: self.sources[form] for form in FORMS if form in self.sources})

    def prepare(self) -> None:
        """Return nothing; compile and load every form, as a CUDA graph capture needs it beforehand.

        Raises CudaUnavailable where numba-cuda or a device is missing.
        """
        self._kernels.prepare()

    def launch(self, arguments: Sequence[Any], stream: int) -> str:
        """Return the form that was launched, "wide" or "scalar"; the work is queued: keep the arguments until it ran.

        arguments: for each buffer, an address or an object with `__cuda_array_interface__`, contiguous. An address
                   that is not aligned for 128-bit accesses takes the scalar form.
        stream:    handle of the stream to launch on; 0 is the default stream.
        Raises ArgumentError for an argument that does not fit its buffer, CudaUnavailable without a device.
        """
        addresses = addresses_of(self.region.buffers, arguments)
        form = self._kernels.choose(addresses)
        threads = self.sources[form].threads or THREADS_PER_BLOCK
        needed = -(-self.sources[form].work_items // threads)
        blocks = min(needed, THREADS_PER_MULTIPROCESSOR // threads * cuda_launch.multiprocessors())
        self._kernels.launch(form, blocks, threads, stream, addresses)
        return form
