"""Attention in NumPy, in float64: what kernels are checked against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from kernels.compiler.attention_ir import AttentionKernel

Array = npt.NDArray[Any]
_HIDES = 1e4
"""Added numbers of this size leave less than three digits of a score in float32."""


def evaluate_attention(kernel: AttentionKernel, arrays: Sequence[Array]) -> None:
    """Fill the last of `arrays`, one for each buffer; the result is computed in float64."""
    rows = (*kernel.leading, kernel.queries)
    with np.errstate(all="ignore"):
        queries = _window(arrays[0], (*rows, kernel.depth), kernel.query_strides)
        keys = _window(arrays[1], (*kernel.leading, kernel.keys, kernel.depth), kernel.key_strides)
        values = _window(arrays[2], (*kernel.leading, kernel.keys, kernel.width), kernel.value_strides)
        scores = kernel.scale * (queries.astype("f8") @ np.swapaxes(keys, -1, -2).astype("f8"))
        scores = _masked(kernel, scores, arrays)
        highest = scores.max(axis=-1, keepdims=True)
        shift = np.where(np.isneginf(highest), 0.0, highest) if kernel.masked_rows_are_zero else highest
        powers = np.exp(scores - shift)
        total = powers.sum(axis=-1, keepdims=True)
        weights = powers / np.where(total == 0.0, 1.0, total)
        out = _window(arrays[-1], (*rows, kernel.width), kernel.out_strides)
        out[...] = weights @ values.astype("f8")


def _masked(kernel: AttentionKernel, scores: Array, arrays: Sequence[Array]) -> Array:
    mask = kernel.mask
    if mask is not None:
        window = _window(arrays[3], (*kernel.leading, kernel.queries, kernel.keys), mask.strides)
        held = np.where(window == (mask.kind == "keep"), scores, mask.fill)
        scores = _added(scores, window) if mask.kind == "add" else held
    if kernel.causal:
        seen = np.arange(kernel.keys) <= np.arange(kernel.queries)[:, None]
        scores = np.where(seen, scores, -np.inf)
    return scores


def _added(scores: Array, mask: Array) -> Array:
    """Return the sum: in float32 where the mask hides a score, as -1e9 does, for it swallows what the score was.

    A row that is hidden altogether has equal weights then, in eager as in kernels.
    """
    total = scores + mask
    return np.where(np.abs(mask) >= _HIDES, total.astype(np.float32), total)


def _window(array: Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    return as_strided(array, shape, [stride * array.itemsize for stride in strides])
