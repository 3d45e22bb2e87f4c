"""A compressed weight -> the arrays of a product, as tensors, and which kinds of products compute with the weight."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.quantized.cpu_lookup_weights import GROUPED_LOOKUP, lookup_kind, lookup_weights
from kernels.quantized.cpu_store import stored_arrays
from kernels.quantized.cpu_weights import (
    PreparedWeights,
    WeightsError,
    bfloat16_weights,
    codebook_weights,
    int8_weights,
    weight_only_weights,
)
from optimizers.quantization.compressed import (
    BFLOAT16,
    CODEBOOK,
    GROUPED_CODEBOOK,
    INT8,
    INT8_WEIGHT_ONLY,
    CompressedWeight,
    centroid_tables,
)
from optimizers.quantization.errors import CompressionError
from optimizers.quantization.packed_arrays import PanelArrays

DYNAMIC, FLOAT = "dynamic", "float"
"""Activations: quantised to bytes row by row as they come, or left as they are."""
DENSE = "float32"
"""The kind of weights that torch's own float32 product multiplies by."""
_LOOKUP = "codebook-float"
"""Stands for the kind of products that look centroids up as float32, for codes of a weight's own bits."""
_WITH_BYTES: Mapping[str, tuple[str, ...]] = {
    INT8: (INT8, INT8_WEIGHT_ONLY, DENSE),
    CODEBOOK: (CODEBOOK, _LOOKUP, INT8, INT8_WEIGHT_ONLY, DENSE),
    GROUPED_CODEBOOK: (GROUPED_CODEBOOK, GROUPED_LOOKUP, DENSE),
}
_WITH_FLOATS: Mapping[str, tuple[str, ...]] = {
    INT8: (INT8_WEIGHT_ONLY, DENSE),
    INT8_WEIGHT_ONLY: (INT8_WEIGHT_ONLY, DENSE),
    CODEBOOK: (_LOOKUP, INT8_WEIGHT_ONLY, DENSE),
    GROUPED_CODEBOOK: (GROUPED_LOOKUP, DENSE),
    BFLOAT16: (BFLOAT16, DENSE),
}


def kinds(weight: CompressedWeight, activations: str = DYNAMIC) -> tuple[str, ...]:
    """Return the kinds of products that multiply by exactly this weight, the smallest in memory first.

    activations: "dynamic" allows those that quantise the activations to bytes, "float" does not (a bfloat16 weight's
    are rounded to bfloat16 in either case). The last one is always "float32", torch's own product.
    Raises CompressionError for other activations.
    """
    if activations not in (DYNAMIC, FLOAT):
        raise CompressionError(f"activations {activations!r} are not known; give {DYNAMIC!r} or {FLOAT!r}")
    found = _WITH_BYTES.get(weight.method) if activations == DYNAMIC else None
    found = found or _WITH_FLOATS.get(weight.method, (DENSE,))
    return tuple(lookup_kind(weight.bits) if kind == _LOOKUP else kind for kind in found)


def prepared_weights(weight: CompressedWeight, kind: str) -> PreparedWeights:
    """Return a compressed weight packed for products of a kind, one of `kinds` but "float32".

    Raises CompressionError where that kind cannot hold the weight.
    """
    lying = weight.arrays
    if isinstance(lying, PanelArrays) and lying.prepared.kind == kind:
        return lying.prepared
    make = _PREPARE.get((weight.method, _LOOKUP if kind.startswith(_LOOKUP) else kind))
    if make is None:
        raise CompressionError(
            f"{weight.method} weights have no {kind} products; use one of {', '.join(kinds(weight))}"
        )
    try:
        return make(weight)
    except WeightsError as error:
        raise CompressionError(str(error)) from error


def arrays_of(weights: PreparedWeights) -> dict[str, torch.Tensor]:
    """Return the arrays of prepared weights by cpu_store's names; they share the memory."""
    return {name: shared(array) for name, array in stored_arrays(weights).items()}


def shared(array: NDArray[Any]) -> torch.Tensor:
    """Return a tensor that shares an array's memory, which may be a map that is only read."""
    with warnings.catch_warnings():
        # Kernels only read packed weights: that torch would let others write to them is no concern of theirs.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _scaled(weight: CompressedWeight) -> tuple[NDArray[Any], NDArray[Any]]:
    return np.ascontiguousarray(weight.arrays["values"]), np.ascontiguousarray(weight.arrays["scales"])


def _looked_up(weight: CompressedWeight) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a codebook weight's values as bytes and the scale of each row: the same numbers, of twice the size."""
    tables, scales = centroid_tables(weight)
    codes = weight.arrays["codes"]
    if len(tables) == 1:
        return np.ascontiguousarray(tables[0][codes]), np.repeat(scales, len(codes))
    return np.take_along_axis(tables, codes.astype(np.intp), axis=1), np.ascontiguousarray(scales)


def _codebook(weight: CompressedWeight) -> PreparedWeights:
    codes, centroids = (np.ascontiguousarray(weight.arrays[name]) for name in ("codes", "centroids"))
    return codebook_weights(codes, centroids, weight.group)


def _lookup(weight: CompressedWeight) -> PreparedWeights:
    codes, centroids = (np.ascontiguousarray(weight.arrays[name]) for name in ("codes", "centroids"))
    return lookup_weights(codes, centroids, weight.group)


_PREPARE: Mapping[tuple[str, str], Callable[[CompressedWeight], PreparedWeights]] = {
    (INT8, INT8): lambda weight: int8_weights(*_scaled(weight)),
    (INT8, INT8_WEIGHT_ONLY): lambda weight: weight_only_weights(*_scaled(weight)),
    (INT8_WEIGHT_ONLY, INT8_WEIGHT_ONLY): lambda weight: weight_only_weights(*_scaled(weight)),
    (CODEBOOK, CODEBOOK): _codebook,
    (CODEBOOK, INT8): lambda weight: int8_weights(*_looked_up(weight)),
    (CODEBOOK, INT8_WEIGHT_ONLY): lambda weight: weight_only_weights(*_looked_up(weight)),
    (CODEBOOK, _LOOKUP): _lookup,
    (GROUPED_CODEBOOK, GROUPED_CODEBOOK): _codebook,
    (GROUPED_CODEBOOK, GROUPED_LOOKUP): _lookup,
    (BFLOAT16, BFLOAT16): lambda weight: bfloat16_weights(weight.dequantised()),
}
