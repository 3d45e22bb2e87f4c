"""Compressed weights of every form around random values, made without any fit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from optimizers.quantization.compressed import (
    BFLOAT16,
    CODEBOOK,
    GROUPED_CODEBOOK,
    INT8,
    INT8_WEIGHT_ONLY,
    LOW_RANK,
    SPARSE,
    CompressedWeight,
    rounded_centroids,
)

FORMS = (INT8, INT8_WEIGHT_ONLY, CODEBOOK, GROUPED_CODEBOOK, BFLOAT16, SPARSE, LOW_RANK)


def compressed(method: str, values: torch.Tensor, bits: int = 4, shared: bool = False) -> CompressedWeight:
    """Return a weight of a form that is near to values [rows, ...]; shared: one codebook for all rows."""
    matrix = values.detach().numpy().reshape(len(values), -1).astype(np.float32)
    if method in (INT8, INT8_WEIGHT_ONLY):
        scales = np.maximum(np.abs(matrix).max(axis=1) / 127, 1e-12).astype(np.float32)
        whole = np.rint(matrix / scales[:, None]).astype(np.int8)
        return CompressedWeight(method, matrix.shape, 8, None, {"values": whole, "scales": scales})
    if method == CODEBOOK:
        codes, books = _nearest(matrix.reshape(1, -1) if shared else matrix, bits)
        arrays = {"codes": codes.reshape(matrix.shape), "centroids": books}
        return CompressedWeight(method, matrix.shape, bits, None, arrays)
    if method == GROUPED_CODEBOOK:
        parts = [_nearest(matrix[:, first : first + 16], bits) for first in range(0, matrix.shape[1], 16)]
        arrays = {
            "codes": np.concatenate([codes for codes, _ in parts], axis=1),
            "centroids": np.stack([books for _, books in parts], axis=1),
        }
        return CompressedWeight(method, matrix.shape, bits, 16, arrays)
    if method == BFLOAT16:
        halves = (np.ascontiguousarray(matrix).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
        return CompressedWeight(method, matrix.shape, 16, None, {"values": halves})
    if method == SPARSE:
        kept = np.abs(matrix) > np.median(np.abs(matrix))
        starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int64)
        arrays = {"values": matrix[kept], "columns": np.nonzero(kept)[1].astype(np.uint16), "starts": starts}
        return CompressedWeight(method, matrix.shape, 32, None, arrays)
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    rank = max(1, len(sizes) // 2)
    arrays = {"left": (left[:, :rank] * sizes[:rank]).astype(np.float32), "right": np.ascontiguousarray(right[:rank])}
    return CompressedWeight(LOW_RANK, matrix.shape, 32, None, arrays)


def of_parameters(
    module: torch.nn.Module, method: str, bits: int = 4, shared: bool = False
) -> Mapping[str, CompressedWeight]:
    """Return the compressed weights of a layer by parameter name; biases are left out."""
    named = {name: value for name, value in module.named_parameters(recurse=False) if "weight" in name}
    return {name: compressed(method, value, bits, shared) for name, value in named.items()}


def _nearest(matrix: NDArray[np.float32], bits: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    places = (np.arange(1 << bits) + 0.5) / (1 << bits)
    books = rounded_centroids(np.quantile(matrix, places, axis=1).T)
    codes = np.abs(matrix[:, :, None] - books[:, None, :]).argmin(axis=2).astype(np.uint8)
    return codes, books
