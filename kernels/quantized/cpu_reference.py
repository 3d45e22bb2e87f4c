"""What prepared weights hold, and their products in NumPy: by exact integers and in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import erf

import numpy as np
from numpy.typing import NDArray

from kernels.quantized.cpu_codebook import CODES, STRIP, unpack_codes
from kernels.quantized.cpu_lookup import unpack_lanes
from kernels.quantized.cpu_lookup_weights import GROUPED_LOOKUP, LOOKUP_BITS
from kernels.quantized.cpu_tile import COLUMNS
from kernels.quantized.cpu_weights import PreparedWeights

_GROUPED = ("grouped-codebook", GROUPED_LOOKUP)
_error_function = np.vectorize(erf, otypes=[np.float64])
_ACTIVATIONS: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "none": lambda y: y,
    "relu": lambda y: np.where(y < 0, 0.0, y),
    "gelu": lambda y: 0.5 * y * (1.0 + _error_function(y / np.sqrt(2.0))),
    "gelu_tanh": lambda y: 0.5 * y * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (y + 0.044715 * y**3))),
    "silu": lambda y: y / (1.0 + np.exp(-y)),
}


def integer_weights(weights: PreparedWeights) -> NDArray[np.int8]:
    """Return the int8 weights [rows, columns] that a product sums, read back from the panels.

    Of a codebook these are the rounded centroids.
    """
    panels = np.asarray(weights.arrays[0])
    if weights.kind.startswith("int8"):
        signed = np.swapaxes(panels.astype(np.int8, copy=False), 1, 2)
        found = signed.reshape(len(signed) * COLUMNS, -1)
    else:
        found = _looked_up(_codes(weights), _tables(weights), _group(weights))
    return np.ascontiguousarray(found[: weights.rows, : weights.columns])


def codes_of(weights: PreparedWeights) -> NDArray[np.uint8]:
    """Return the codes [rows, columns] of weights with codebooks, read back from the panels."""
    return np.ascontiguousarray(_codes(weights)[: weights.rows, : weights.columns])


def codebooks(weights: PreparedWeights) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return the codebooks int8 [rows, groups, 16] of weights and their scales [rows, groups], read back likewise."""
    tables = _tables(weights)[: weights.rows]
    if weights.kind not in _GROUPED:
        return tables, np.asarray(weights.arrays[1], np.float32)[: weights.rows, None]
    strips = np.asarray(weights.arrays[5], np.float32)
    if weights.kind == GROUPED_LOOKUP:
        return tables, strips[: weights.rows]
    return tables, np.swapaxes(strips, 1, 2).reshape(-1, strips.shape[1])[: weights.rows]


def dequantised(weights: PreparedWeights) -> NDArray[np.float32]:
    """Return the weights [rows, columns] as float32: what a product multiplies by, but for rounding."""
    if weights.kind == "bfloat16":
        panels = np.asarray(weights.arrays[0]).astype(np.uint16, copy=False)
        bits = np.swapaxes(panels, 1, 2).reshape(-1, weights.depth // 2)[: weights.rows, : weights.columns]
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    integers = integer_weights(weights).astype(np.float32)
    if weights.kind not in _GROUPED:
        scales = np.asarray(weights.arrays[1], np.float32)
        return integers * scales[: weights.rows, None]
    per_column = np.repeat(codebooks(weights)[1], _group(weights), axis=1)
    return integers * per_column[:, : weights.columns]


def activated(values: NDArray[np.float64], activation: str) -> NDArray[np.float64]:
    """Return an activation's values in float64."""
    return _ACTIVATIONS[activation](values)


def reference_product(
    weights: PreparedWeights,
    x: NDArray[np.floating],
    activation: str = "none",
    bias: NDArray[np.float32] | None = None,
    residual: NDArray[np.float32] | None = None,
) -> NDArray[np.float64]:
    """Return activation(x W^T + bias) + residual in float64; x [rows, columns] is taken as it is."""
    sums = x.astype(np.float64) @ dequantised(weights).astype(np.float64).T
    values = activated(sums if bias is None else sums + bias, activation)
    return values if residual is None else values + residual


def _tables(weights: PreparedWeights) -> NDArray[np.int8]:
    """Return the codebooks [panels * 64, groups, 16]."""
    packed = np.asarray(weights.arrays[4]).astype(np.int8, copy=False)
    if weights.kind in LOOKUP_BITS:
        return packed
    groups = packed.shape[2]
    parts = packed.reshape(-1, COLUMNS // STRIP, groups, 4, 4, CODES).transpose(0, 1, 4, 3, 2, 5)
    return np.ascontiguousarray(parts).reshape(-1, groups, CODES)


def _group(weights: PreparedWeights) -> int:
    """Return the columns of a group."""
    return int(weights.table[9]) if weights.kind in (*_GROUPED, *LOOKUP_BITS) else weights.depth


def _codes(weights: PreparedWeights) -> NDArray[np.uint8]:
    """Return the codes [panels * 64, depth]."""
    panels = np.asarray(weights.arrays[0]).astype(np.uint8, copy=False)
    if weights.kind in LOOKUP_BITS:
        return unpack_lanes(panels, weights.depth // 4, LOOKUP_BITS[weights.kind], _group(weights))
    return unpack_codes(panels)


def _looked_up(codes: NDArray[np.uint8], tables: NDArray[np.int8], group: int) -> NDArray[np.int8]:
    """Return table[code] for codes [rows, depth] and tables [rows, groups, 16]."""
    numbers = np.arange(codes.shape[1]) // group
    return np.asarray(tables[np.arange(len(codes))[:, None], numbers[None, :], codes], np.int8)
