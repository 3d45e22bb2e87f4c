"""The quantized matrix-vector family: int8 or 4-bit codebook weights times one to eight vectors.

Its parts: quantized_packing.py (how weights lie), quantized_product.py (what is computed), quantized_source.py and
quantized_steps.py (the kernel's text and its CPU twin's), quantized_arithmetic.py (what both call); here the float64
reference and the launcher.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.cuda import launch as cuda_launch
from kernels.cuda.launch import DeviceKernels, LaunchBuffer, addresses_of
from kernels.quantized.product import CENTROIDS, Operand, QuantizedProduct
from kernels.quantized.source import (
    LARGEST_BLOCK_WARPS,
    ROWS_PER_WARP,
    WARP,
    WARPS_PER_ROW,
    Tuning,
    fits_shared_memory,
    print_quantized,
)

BLOCKS_PER_MULTIPROCESSOR = 8
# 12 warps for each of an H100's 132 multiprocessors, each with a tile of every row on its way: an estimate of what
# keeps the memory busy, for a GPU to confirm.
WANTED_WARPS = 132 * 12
# An array may come as what it holds; bfloat16, which the array interface lacks, as int16.
_GIVEN_AS = {"weights": ("int32", "uint8", "int8"), "x": ("int8", "int32", "float16", "int16")}


def default_tuning(product: QuantizedProduct) -> Tuning:
    """Return a spread of the work that should keep an H100's memory busy: an estimate, not yet measured.

    Rows share each input that is loaded; they are as many as leave enough warps. What is missing then, warps of one
    block make up by sharing rows.
    """
    most = 4 if product.weights == "codebook" or product.batch > 1 else 2
    rows = 2 if product.batch > 4 or product.scope == "group" else most
    while rows > 1 and product.rows < WANTED_WARPS * rows:
        rows //= 2
    warps = 1
    while warps < LARGEST_BLOCK_WARPS and 2 * warps <= _tiles(product) and product.rows * warps < WANTED_WARPS * rows:
        warps *= 2
    return Tuning(rows, warps)


def possible_tunings(product: QuantizedProduct) -> tuple[Tuning, ...]:
    """Return the spreads in which no row is computed for nothing and no warp is without a tile: to choose by measuring.

    A spread with more than 16 sums a lane is left out: its registers would leave too few warps.
    """
    spreads = [Tuning(rows, warps) for rows in ROWS_PER_WARP for warps in WARPS_PER_ROW]
    return tuple(
        tuning
        for tuning in spreads
        if tuning.rows_per_warp <= product.rows
        and tuning.warps_per_row <= _tiles(product)
        and (tuning.rows_per_warp == 1 or tuning.rows_per_warp * product.batch <= 16)
        and fits_shared_memory(product, tuning)
    )


def _tiles(product: QuantizedProduct) -> int:
    return -(-product.columns // product.tile_columns)


def reference(product: QuantizedProduct, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return what the flat arrays hold after the kernel, every floating value in float64; they stay as they are."""
    given = dict(zip([operand.name for operand in product.operands()], arrays, strict=True))
    values = product.packing.unpack(given["weights"].reshape(product.rows, -1))
    if product.is_integer:
        x = given["x"].view(np.int8).reshape(product.batch, -1)[:, : product.columns]
        sums = (x.astype(np.int64) @ values.T.astype(np.int64)).astype(np.int32)
        return [given["weights"], given["x"], sums.ravel()]
    with np.errstate(all="ignore"):
        y = _inputs(product, given["x"]) @ _weights(product, values, given).T
        if product.bias:
            y = y + given["bias"].astype(np.float64)
    wide = [array.astype(np.float64) if array.dtype.kind == "f" else array for array in arrays]
    return [*wide[:-1], y.ravel()]


class Launcher:
    """Launches one product on the current CUDA device; kernels are compiled once, at first use or by `prepare`.

    tuning: how the work is spread, by default as `default_tuning` says.
    """

    def __init__(self, product: QuantizedProduct, tuning: Tuning | None = None) -> None:
        self.product = product
        self.tuning = tuning or default_tuning(product)
        self.sources = print_quantized(product, self.tuning)
        self.buffers = tuple(_buffer(operand) for operand in product.operands())
        self._kernels = DeviceKernels(self.sources)

    def prepare(self) -> None:
        """Return nothing; compile and load every form, as a CUDA graph capture needs it beforehand.

        Raises CudaUnavailable where numba-cuda or a device is missing.
        """
        self._kernels.prepare()

    def launch(self, arguments: Sequence[Any], stream: int) -> str:
        """Return the form that was launched, "wide" or "scalar"; the work is queued: keep the arguments until it ran.

        arguments: for each of the product's operands, an address or an object with `__cuda_array_interface__`,
                   contiguous. An address that is not aligned for 128-bit accesses takes the scalar form.
        stream:    handle of the stream to launch on; 0 is the default stream.
        Raises ArgumentError for an argument that does not fit its operand, CudaUnavailable without a device.
        """
        addresses = addresses_of(self.buffers, arguments)
        form = self._kernels.choose(addresses)
        threads = LARGEST_BLOCK_WARPS * WARP
        needed = -(-self.sources[form].work_items // threads)
        blocks = min(needed, BLOCKS_PER_MULTIPROCESSOR * cuda_launch.multiprocessors())
        self._kernels.launch(form, blocks, threads, stream, addresses)
        return form


def _buffer(operand: Operand) -> LaunchBuffer:
    given_as = _GIVEN_AS.get(operand.name, ())
    return LaunchBuffer(operand.name, operand.dtype, operand.elements, operand.written, given_as)


def _inputs(product: QuantizedProduct, x: NDArray[Any]) -> NDArray[np.float64]:
    if product.inputs == "float16":
        x = x.view(np.float16)
    elif product.inputs == "bfloat16":
        x = (x.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return x.astype(np.float64).reshape(product.batch, product.columns)


def _weights(product: QuantizedProduct, values: NDArray[Any], given: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    if product.weights == "int8":
        return values * given["scales"].astype(np.float64)[:, None]
    codebook = given["codebook"].astype(np.float64).reshape(-1, product.groups, CENTROIDS)
    row = np.arange(product.rows)[:, None] if product.scope != "tensor" else 0
    group = np.arange(product.columns)[None, :] // product.group if product.scope == "group" else 0
    return np.asarray(codebook[row, group, values], np.float64)
