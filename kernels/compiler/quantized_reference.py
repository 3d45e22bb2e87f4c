"""NumPy interpreters of row conversions and quantized products: the oracles that their printers are tested against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from kernels.compiler.gather_reference import evaluate_gather
from kernels.compiler.quantized_gather_ir import QuantizedGatherKernel
from kernels.compiler.quantized_ir import FORMS, ConvertKernel, QuantizedKernel
from kernels.compiler.reference import evaluate
from kernels.quantized.cpu_quantise import ROUND, SMALLEST_SCALE, STEPS
from kernels.quantized.cpu_reference import dequantised
from kernels.quantized.cpu_rows import unpacked_rows
from kernels.quantized.cpu_store import layout, restored
from kernels.quantized.cpu_weights import bfloat16_bits

Array = np.ndarray[Any, np.dtype[Any]]


def evaluate_convert(kernel: ConvertKernel, arrays: Sequence[Array], _exact: bool = False) -> None:
    """Return nothing; store the converted rows into the last of `arrays`, as words."""
    x, out = arrays
    with np.errstate(invalid="ignore", over="ignore"):
        rows = _window(x, (kernel.rows, kernel.columns), (kernel.stride, 1)).astype(np.float32)
    padded = np.zeros((kernel.rows, kernel.row_bytes // {"bytes": 1, "bfloat16": 2, "float32": 4}[kernel.form]))
    values = padded.astype(np.float32)
    values[:, : kernel.columns] = rows
    if kernel.form == "bytes":
        out[:] = np.concatenate([part.reshape(-1).view(np.int32) for part in _quantised(values)])
    elif kernel.form == "bfloat16":
        out[:] = bfloat16_bits(values).reshape(-1).view(np.int32)
    else:
        out[:] = values.reshape(-1).view(np.int32)


def _quantised(values: Array) -> tuple[Array, Array, Array]:
    """Return bytes, scales and zeros of rows, rounded as the kernel rounds them."""
    single = np.float32
    with np.errstate(invalid="ignore", over="ignore"):
        low, high = np.fmin(values.min(axis=1), single(0)), np.fmax(values.max(axis=1), single(0))
        share = single(1.0 / STEPS)
        scales = np.fmax(high * share - low * share, single(SMALLEST_SCALE)).astype(single)
        inverse = single(1) / scales
        shifted = _rounded_once(-low, inverse, single(ROUND))
        codes = _rounded_once(values, inverse[:, None], shifted[:, None]).view(np.int32).astype(np.uint8)
        bad = ~np.isfinite(values).all(axis=1)
        zeros = np.where(bad, 0, shifted - single(ROUND)).astype(np.int32)
    return codes, np.where(bad, single(np.nan), scales), zeros


def _rounded_once(left: Array, right: Array, total: Any) -> Array:
    """Return left * right + total of float32, rounded once: float64 holds the product of two float32 exactly."""
    return (left.astype(np.float64) * right.astype(np.float64) + np.float64(total)).astype(np.float32)


def evaluate_quantized(kernel: QuantizedKernel, arrays: Sequence[Array], exact: bool = False) -> None:
    """Return nothing; store the results into `arrays`, one flat array for each buffer.

    exact: compute in float64 behind the activations, which are what the tiles read; else the product is rounded once.
    """
    names = layout(kernel.kind, kernel.columns, kernel.depth, kernel.group)
    activations, *others = arrays
    weights, others = others[: len(names)], others[len(names) :]
    given = {
        name: np.ascontiguousarray(array.astype(dtype)).reshape(shape)
        for (name, (dtype, shape)), array in zip(names.items(), weights, strict=True)
    }
    matrix = dequantised(restored(kernel.kind, kernel.columns, kernel.depth, given, kernel.group))
    with np.errstate(all="ignore"):
        product = _activations(kernel, activations) @ matrix.astype(np.float64).T
        sums = product.astype(np.float64 if exact else np.float32).ravel()
    evaluate(kernel.region, [*others[: kernel.sums], sums, *others[kernel.sums :]], exact)


def evaluate_quantized_gather(kernel: QuantizedGatherKernel, arrays: Sequence[Array], exact: bool = False) -> None:
    """Return nothing; store the rows into the last of `arrays`, one flat array for each buffer.

    Raises IndexError for an index that is no row of the table.
    """
    index, codes, scales, *rest = arrays
    factors = scales.astype(np.float32)
    stored = codes.reshape(kernel.rows, kernel.width)
    if kernel.kind == "int8":
        table = stored.astype(np.float32) * factors[:, None]
    elif kernel.kind == "bfloat16":
        table = (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    else:
        books = rest[0].reshape(kernel.books, kernel.groups, -1).astype(np.float32)
        books = books * factors.reshape(kernel.books, kernel.groups, 1)
        numbers = unpacked_rows(stored.astype(np.uint8), kernel.columns, kernel.bits)
        own = np.zeros(kernel.rows, np.int64) if kernel.books == 1 else np.arange(kernel.rows)
        table = books[own[:, None], np.arange(kernel.columns)[None] // kernel.group, numbers]
    evaluate_gather(kernel.plain, [index, np.ascontiguousarray(table).ravel(), arrays[-1]], exact)


def _activations(kernel: QuantizedKernel, words: Array) -> Array:
    """Return the activations that converted rows stand for, in float64."""
    memory = np.ascontiguousarray(words.astype(np.int32)).view(np.uint8)
    rows, size, form = kernel.rows, kernel.row_bytes, FORMS[kernel.kind]
    body = memory[: rows * size].reshape(rows, size)
    if form == "float32":
        return body.view(np.float32)[:, : kernel.depth].astype(np.float64)
    if form == "bfloat16":
        return (body.view(np.uint16).astype(np.uint32) << 16).view(np.float32)[:, : kernel.depth].astype(np.float64)
    scales = memory[rows * size : rows * (size + 4)].view(np.float32).astype(np.float64)
    zeros = memory[rows * (size + 4) : rows * (size + 8)].view(np.int32)
    return (body[:, : kernel.depth].astype(np.float64) - zeros[:, None]) * scales[:, None]


def _window(array: Array, shape: Sequence[int], strides: Sequence[int]) -> Array:
    return as_strided(array, shape, [stride * array.itemsize for stride in strides])
