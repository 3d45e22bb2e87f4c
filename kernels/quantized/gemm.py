"""Products of quantized weights with a small batch on a CUDA device: reference, spread of the work, launcher.

Its parts: gemm_shape.py (what is computed), gemm_source.py (the kernel's text and its CPU twin's),
byte_arithmetic.py and kernels/cuda/matrix.py (what both call), activation_bytes.py (how rows become bytes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.cuda import launch as cuda_launch
from kernels.cuda.kernel import THREADS_PER_BLOCK, KernelSource
from kernels.cuda.launch import DeviceKernels, LaunchBuffer, addresses_of
from kernels.quantized.activation_bytes import ActivationBytes, print_bytes, unpacked_bytes
from kernels.quantized.cpu_reference import activated
from kernels.quantized.gemm_shape import SmallGemm
from kernels.quantized.gemm_source import LARGEST_BLOCK_WARPS, WARPS_PER_TILE, print_gemm
from kernels.quantized.product import CENTROIDS, Operand

BLOCKS_PER_MULTIPROCESSOR = 8
# 12 warps for each of an H100's 132 multiprocessors: an estimate of what keeps the memory busy, for a GPU to confirm.
WANTED_WARPS = 132 * 12
_GIVEN_AS = {
    "weights": ("int32", "uint8", "int8"),
    "tables": ("int32", "uint8", "int8"),
    "x": ("int32", "uint8", "int16", "float16"),
    "bytes": ("int32", "uint8"),
}


def default_warps(product: SmallGemm) -> int:
    """Return how many warps of a block share 16 rows: as many as an H100 may need, an estimate that nobody measured."""
    warps = 1
    while (
        warps < LARGEST_BLOCK_WARPS and 2 * warps <= product.bytes.chunks and product.row_tiles * warps < WANTED_WARPS
    ):
        warps *= 2
    return warps


def possible_warps(product: SmallGemm) -> tuple[int, ...]:
    """Return the spreads in which no warp is without a chunk: to choose by measuring."""
    return tuple(warps for warps in WARPS_PER_TILE if warps <= product.bytes.chunks)


def reference(product: SmallGemm, batch: int, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return what the flat arrays hold after the kernel, every floating value in float64; they stay as they are."""
    given = dict(zip([operand.name for operand in product.operands(batch)], arrays, strict=True))
    x = unpacked_bytes(product.bytes, given["x"]).astype(np.int64) - given["x_zeros"].astype(np.int64)[:, None]
    weights = integer_weights(product, given).astype(np.int64)
    # As the kernel has it: the sums of the weights are given, and the zero point comes off with them.
    sums = x @ weights.T - given["x_zeros"].astype(np.int64)[:, None] * (given["sums"] - weights.sum(axis=1))
    scales = given["x_scales"].astype(np.float64)[:, None] * given["scales"].astype(np.float64)
    with np.errstate(all="ignore"):
        y = sums * scales + (given["bias"].astype(np.float64) if product.bias else 0.0)
        y = activated(y, product.activation)
    wide = [array.astype(np.float64) if array.dtype.kind == "f" else array for array in arrays]
    return [*wide[:-1], y.ravel()]


def integer_weights(product: SmallGemm, given: dict[str, NDArray[Any]]) -> NDArray[np.int8]:
    """Return the integers [rows, columns] that packed weights, and their codebooks, stand for."""
    values = product.packing.unpack(given["weights"].reshape(product.rows, -1))
    if product.weights == "int8":
        return values.astype(np.int8, copy=False)
    tables = given["tables"].view(np.int8).reshape(-1, CENTROIDS)
    row = np.arange(product.rows)[:, None] if product.scope == "row" else 0
    return np.asarray(tables[row, values], np.int8)


class Launcher:
    """Launches one product on the current CUDA device; kernels are compiled once, at first use or by `prepare`.

    warps_per_tile: the warps that share 16 rows, by default as `default_warps` says.
    """

    def __init__(self, product: SmallGemm, warps_per_tile: int | None = None) -> None:
        self.product = product
        self.sources = print_gemm(product, warps_per_tile or default_warps(product))
        self._kernels = DeviceKernels(self.sources)

    def prepare(self) -> None:
        """Return nothing; compile and load every form. Raises CudaUnavailable without numba-cuda or a device."""
        self._kernels.prepare()

    def launch(self, arguments: Sequence[Any], batch: int, stream: int) -> str:
        """Return the form that was launched, "wide" or "scalar"; the work is queued: keep the arguments until it ran.

        arguments: for each of product.operands(batch), an address or an object with `__cuda_array_interface__`.
        stream:    handle of the stream to launch on; 0 is the default stream.
        Raises ProductError for a batch that the kernel does not compute, ArgumentError for an argument that does not
        fit its operand, CudaUnavailable without a device.
        """
        addresses = addresses_of(_buffers(self.product.operands(batch)), arguments)
        return _launched(self._kernels, self.sources, addresses, batch, None, stream)


class BytesLauncher:
    """Launches what makes bytes of rows on the current CUDA device, a block a row."""

    def __init__(self, shape: ActivationBytes) -> None:
        self.shape = shape
        self.sources = print_bytes(shape)
        self._kernels = DeviceKernels(self.sources)

    def prepare(self) -> None:
        """Return nothing; compile and load every form. Raises CudaUnavailable without numba-cuda or a device."""
        self._kernels.prepare()

    def launch(self, arguments: Sequence[Any], batch: int, stream: int) -> str:
        """Return the form that was launched. arguments: for each of shape.operands(batch), as Launcher.launch has it.

        Raises ArgumentError for an argument that does not fit its operand, CudaUnavailable without a device.
        """
        addresses = addresses_of(_buffers(self.shape.operands(batch)), arguments)
        return _launched(self._kernels, self.sources, addresses, batch, batch, stream)


def _launched(
    kernels: DeviceKernels,
    sources: dict[str, KernelSource],
    addresses: tuple[int, ...],
    batch: int,
    wanted_blocks: int | None,
    stream: int,
) -> str:
    form = kernels.choose(addresses)
    needed = wanted_blocks or -(-sources[form].work_items // THREADS_PER_BLOCK)
    blocks = min(needed, BLOCKS_PER_MULTIPROCESSOR * cuda_launch.multiprocessors())
    kernels.launch(form, blocks, THREADS_PER_BLOCK, stream, (*addresses, batch))
    return form


def _buffers(operands: Sequence[Operand]) -> list[LaunchBuffer]:
    return [LaunchBuffer(o.name, o.dtype, o.elements, o.written, _GIVEN_AS.get(o.name, ())) for o in operands]
