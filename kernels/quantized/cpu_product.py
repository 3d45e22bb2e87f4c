"""Products of float32 activations with prepared weights on the CPU, with what follows them in a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from kernels.quantized.cpu_compile import CompiledFamily, compiled_family
from kernels.quantized.cpu_epilogue import ACTIVATIONS
from kernels.quantized.cpu_features import PORTABLE
from kernels.quantized.cpu_lookup_weights import LOOKUP_BITS
from kernels.quantized.cpu_source import (
    MOST_LOOKED_UP,
    bfloat16_source,
    codebook_source,
    grouped_source,
    int8_source,
    lookup_source,
    weight_only_source,
)
from kernels.quantized.cpu_tile import COLUMNS
from kernels.quantized.cpu_weights import PreparedWeights

PARALLEL_WEIGHTS = 1 << 18
"""Weights times rows from which on several threads are worth their start."""
_SOURCES: Mapping[str, Callable[[bool], str]] = {
    "int8": int8_source,
    "codebook": codebook_source,
    "grouped-codebook": grouped_source,
    "bfloat16": bfloat16_source,
    "int8-weight-only": weight_only_source,
    **{kind: partial(lookup_source, kind) for kind in LOOKUP_BITS},
}


class ProductError(ValueError):
    """Arguments that no product takes; the message names what was given and what is needed."""


def family_of(weights: PreparedWeights) -> CompiledFamily:
    """Return the compiled products that take the weights; the first time it compiles them or loads them from disk."""
    return family_named(weights.kind, weights.kernel)


def family_named(kind: str, kernel: str) -> CompiledFamily:
    """Return the compiled products of a kind of weights that a kernel, by its name, reads."""
    return _family(kind, kernel != PORTABLE)


@cache
def _family(kind: str, native: bool) -> CompiledFamily:
    return compiled_family(kind, _SOURCES[kind](native))


def workspace_bytes(weights: PreparedWeights, rows: int, threads: int = 1) -> int:
    """Return the bytes of scratch memory, at a multiple of 64, that a product of so many rows needs.

    Activations as bytes with two numbers a row; where codes are unpacked first, a panel for each thread.
    """
    unpacks = weights.kind == "codebook" and rows > MOST_LOOKED_UP
    quantised = (rows * (weights.depth + 8) + 63) // 64 * 64
    return quantised + (threads * COLUMNS * weights.depth if unpacks else 0)


def quantised_rows(
    weights: PreparedWeights, x: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int32]]:
    """Return x [rows, columns] as a product sees it: bytes [rows, columns], scales and zeros [rows].

    x is nearly scale * (byte - zero); the scale of a row that is not finite is NaN. Raises ProductError for
    weights whose products quantise no activations.
    """
    if weights.kind in ("bfloat16", "int8-weight-only", *LOOKUP_BITS):
        raise ProductError(f"products with {weights.kind} weights quantise no activations; there are no bytes to show")
    if x.shape != (len(x), weights.columns) or x.dtype != np.float32:
        raise ProductError(f"x {x.dtype} {list(x.shape)} cannot be quantised; give float32 [rows, {weights.columns}]")
    rows, depth = len(x), weights.depth
    memory, values = np.zeros(rows * (depth + 8), np.uint8), np.ascontiguousarray(x)
    family = family_of(weights)
    family.quantise(weights.address, values.ctypes.data, weights.columns, rows, memory.ctypes.data)
    numbers = memory[rows * depth :]
    found = memory[: rows * depth].reshape(rows, depth)[:, : weights.columns]
    return found, numbers[: 4 * rows].view(np.float32), numbers[4 * rows :].view(np.int32)


def product(
    weights: PreparedWeights,
    x_address: int,
    rows: int,
    x_stride: int,
    out_address: int,
    out_stride: int,
    activation: str = "none",
    bias_address: int = 0,
    residual_address: int = 0,
    residual_stride: int = 0,
    threads: int = 1,
) -> str:
    """Compute out = activation(x W^T + bias) + residual; return why it ran on one thread if more were asked for.

    x: float32 [rows, weights.columns], out and residual: float32 [rows, weights.rows], their columns adjacent; strides
    are between rows, in elements. bias: float32 [weights.rows]. The residual may lie where out does. Rows of x are
    quantised to bytes, each by itself; one that holds NaN or an infinity gives a row of NaN. (bfloat16 weights take
    them rounded to bfloat16, weight-only and looked-up ones as they are: there NaN and infinities go where float
    arithmetic takes them.)
    Raises ProductError for an unknown activation or a stride that makes rows of the outputs overlap.
    """
    if activation not in ACTIVATIONS:
        raise ProductError(f"the activation {activation!r} is not known; use one of {', '.join(ACTIVATIONS)}")
    if rows < 0 or (rows > 1 and out_stride < weights.rows):
        raise ProductError(f"{rows} rows {out_stride} apart overlap; outputs have {weights.rows} columns")
    if rows == 0:
        return ""
    workspace = np.empty(workspace_bytes(weights, rows, threads) + 64, np.uint8)
    start = workspace.ctypes.data
    arguments = (
        weights.address, x_address, x_stride, rows, out_address, out_stride, ACTIVATIONS.index(activation),
        bias_address, residual_address, residual_stride, start + -start % 64,
    )  # fmt: skip
    worth = rows * weights.rows * weights.columns >= PARALLEL_WEIGHTS
    return family_of(weights).run(arguments, threads if worth else 1)
