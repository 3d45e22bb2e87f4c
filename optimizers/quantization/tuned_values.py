"""What is tuned of a compressed weight: the values that many weights share, and their gradients from the weights'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.quantized.codebook import looked_up, summed_gradient
from optimizers.quantization.compressed import (
    CODEBOOK,
    GROUPED_CODEBOOK,
    INT8,
    INT8_WEIGHT_ONLY,
    LOW_RANK,
    SPARSE,
    CompressedWeight,
    rounded_centroids,
)

Values = Mapping[str, torch.Tensor]
TUNED: Mapping[str, tuple[str, ...]] = {
    CODEBOOK: ("centroids",),
    GROUPED_CODEBOOK: ("centroids",),
    INT8: ("scales",),
    INT8_WEIGHT_ONLY: ("scales",),
    SPARSE: ("values",),
    LOW_RANK: ("left", "right"),
}
"""The arrays of a compressed form that move; codes, columns and whole numbers stay. Nothing of bfloat16 does."""


def tuned_values(weight: CompressedWeight) -> dict[str, torch.Tensor]:
    """Return copies of the arrays that move, float32."""
    return {name: torch.from_numpy(weight.arrays[name].copy()) for name in TUNED.get(weight.method, ())}


def with_values(weight: CompressedWeight, values: Values) -> CompressedWeight:
    """Return the weight with the values in place, as they are: centroids not yet rounded."""
    return replace(weight, arrays={**weight.arrays, **{name: value.numpy() for name, value in values.items()}})


def finished(weight: CompressedWeight) -> CompressedWeight:
    """Return the weight as kernels and files have it: centroids rounded to whole multiples of their scales."""
    if weight.method not in (CODEBOOK, GROUPED_CODEBOOK):
        return replace(weight, arrays={name: np.array(array) for name, array in weight.arrays.items()})
    return replace(weight, arrays={**weight.arrays, "centroids": rounded_centroids(weight.arrays["centroids"])})


def dense(weight: CompressedWeight, threads: int = 1) -> NDArray[np.float32]:
    """Return the weights that the compressed form stands for."""
    if weight.method in (CODEBOOK, GROUPED_CODEBOOK):
        return looked_up(weight.arrays["codes"], weight.arrays["centroids"], weight.group, threads)
    return weight.dequantised()


def gradients(weight: CompressedWeight, gradient: NDArray[np.float32]) -> dict[str, torch.Tensor]:
    """Return the gradient of each array that moves, from that of the weights [rows, columns]."""
    found = _GRADIENTS[weight.method](weight, gradient)
    return {name: torch.from_numpy(np.ascontiguousarray(value, np.float32)) for name, value in found.items()}


Found = dict[str, NDArray[np.float32]]


def _of_centroids(weight: CompressedWeight, gradient: NDArray[np.float32]) -> Found:
    centroids = weight.arrays["centroids"]
    found = summed_gradient(weight.arrays["codes"], gradient, centroids, weight.group)
    # a centroid at zero stands for what was pruned, and stays
    return {"centroids": np.where(centroids == 0, np.float32(0), found)}


def _of_scales(weight: CompressedWeight, gradient: NDArray[np.float32]) -> Found:
    return {"scales": np.einsum("rc,rc->r", gradient, weight.arrays["values"], dtype=np.float32)}


def _of_kept(weight: CompressedWeight, gradient: NDArray[np.float32]) -> Found:
    rows = np.repeat(np.arange(weight.shape[0]), np.diff(weight.arrays["starts"]))
    return {"values": gradient[rows, weight.arrays["columns"]]}


def _of_factors(weight: CompressedWeight, gradient: NDArray[np.float32]) -> Found:
    left, right = weight.arrays["left"], weight.arrays["right"]
    return {"left": gradient @ right.T, "right": left.T @ gradient}


_GRADIENTS: Mapping[str, Callable[[CompressedWeight, NDArray[np.float32]], Found]] = {
    CODEBOOK: _of_centroids,
    GROUPED_CODEBOOK: _of_centroids,
    INT8: _of_scales,
    INT8_WEIGHT_ONLY: _of_scales,
    SPARSE: _of_kept,
    LOW_RANK: _of_factors,
}
