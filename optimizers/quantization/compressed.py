"""A weight in its compressed form, whatever kernel reads it later: what is fitted, saved, tuned and prepared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimizers.quantization.errors import CompressionError

Arrays = Mapping[str, NDArray[Any]]

INT8 = "int8"
INT8_WEIGHT_ONLY = "int8-weight-only"
CODEBOOK = "codebook"
GROUPED_CODEBOOK = "grouped-codebook"
SPARSE = "sparse"
LOW_RANK = "low-rank"
BFLOAT16 = "bfloat16"

_SCALE_BYTES = 4
_TABLE_LEVELS = 127
_SMALLEST = 1e-34


@dataclass(frozen=True, slots=True, eq=False)
class CompressedWeight:
    """One weight matrix [rows, columns]; a convolution's is [out, in * height * width], an embedding's [rows, size].

    method: which arrays there are:
        "int8", "int8-weight-only": values int8 [rows, columns], scales float32 [rows]
        "codebook":                 codes uint8 [rows, columns], centroids float32 [1 or rows, 2**bits]
        "grouped-codebook":         codes uint8 [rows, columns], centroids float32 [rows, groups, 2**bits]
        "sparse":                   values float32 [kept], columns uint16 or uint32 [kept], starts int64 [rows + 1]
        "low-rank":                 left float32 [rows, rank], right float32 [rank, columns]
        "bfloat16":                 values uint16 [rows, columns], the upper halves of float32
    bits:  of one stored element, before entropy coding.
    group: neighbouring columns that share a codebook; None where there are no groups.

    Centroids are whole numbers from -127 to 127 times the scale of their codebook, exactly: what 8-bit kernels compute
    with is what was fitted, and what a file holds (`centroid_tables`).
    """

    method: str
    shape: tuple[int, int]
    bits: int
    group: int | None
    arrays: Arrays = field(repr=False)

    def __post_init__(self) -> None:
        if self.method not in _DEQUANTISED:
            raise CompressionError(f"no compressed form {self.method!r}; it is one of {', '.join(_DEQUANTISED)}")
        missing = [name for name in ARRAYS[self.method] if name not in self.arrays]
        if missing:
            raise CompressionError(
                f"a {self.method} weight without {missing[0]!r}; give {', '.join(ARRAYS[self.method])}"
            )

    def dequantised(self) -> NDArray[np.float32]:
        """Return the weights that the compressed form stands for, float32 [rows, columns]."""
        return _DEQUANTISED[self.method](self)

    @property
    def stored_bytes(self) -> int:
        """Return the bytes of the packed form in a file, without entropy coding."""
        arrays = self.arrays
        if self.method in (CODEBOOK, GROUPED_CODEBOOK):
            books = arrays["centroids"].size >> self.bits
            return -(-arrays["codes"].size * self.bits // 8) + books * ((1 << self.bits) + _SCALE_BYTES)
        return sum(array.nbytes for array in arrays.values())

    def error(self, weight: NDArray[np.float32]) -> float:
        """Return |compressed - weight| / |weight| (Frobenius), against the weights [rows, columns] it was made from."""
        size = float(np.linalg.norm(weight))
        gap = float(np.linalg.norm(self.dequantised() - weight))
        return gap / size if size else gap


ARRAYS: Mapping[str, tuple[str, ...]] = {
    INT8: ("values", "scales"),
    INT8_WEIGHT_ONLY: ("values", "scales"),
    CODEBOOK: ("codes", "centroids"),
    GROUPED_CODEBOOK: ("codes", "centroids"),
    SPARSE: ("values", "columns", "starts"),
    LOW_RANK: ("left", "right"),
    BFLOAT16: ("values",),
}
"""The arrays of each form."""


def rounded_centroids(centroids: NDArray[Any]) -> NDArray[np.float32]:
    """Return codebooks [..., centroids] whose values are whole multiples, -127 to 127, of a scale of each codebook.

    The scale has 16 significant bits, so that its multiples are exact in float32 and rounding twice changes nothing.
    """
    largest = np.abs(centroids).max(axis=-1, keepdims=True).astype(np.float64)
    # numbers so small have no exact multiples; a codebook of them is one of zeros
    scales = np.where(largest > _SMALLEST, largest / _TABLE_LEVELS, 1.0)
    mantissas, exponents = np.frexp(scales)
    scales = np.ldexp(np.ceil(mantissas * 65536) / 65536, exponents)
    rounded: NDArray[np.float32] = (np.rint(np.asarray(centroids, np.float64) / scales) * scales).astype(np.float32)
    return rounded


def centroid_tables(weight: CompressedWeight) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return the codebooks as int8 [..., 2**bits] and the scale of each [...]; multiplied they are the centroids.

    Raises CompressionError for a weight without codebooks.
    """
    centroids = weight.arrays.get("centroids")
    if centroids is None:
        raise CompressionError(
            f"a {weight.method} weight has no codebooks; ask one of {CODEBOOK} or {GROUPED_CODEBOOK}"
        )
    scales = np.abs(centroids).max(axis=-1) / np.float32(_TABLE_LEVELS)
    safe = np.where(scales > 0, scales, np.float32(1))
    return np.rint(centroids / safe[..., None]).astype(np.int8), safe.astype(np.float32)


def from_tables(tables: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the centroids of int8 tables [..., 2**bits] and their scales [...]."""
    return (tables.astype(np.float32) * scales[..., None]).astype(np.float32)


def _scaled(weight: CompressedWeight) -> NDArray[np.float32]:
    return (weight.arrays["values"].astype(np.float32) * weight.arrays["scales"][:, None]).astype(np.float32)


def _looked_up(weight: CompressedWeight) -> NDArray[np.float32]:
    codes, centroids = weight.arrays["codes"], weight.arrays["centroids"]
    if len(centroids) == 1:
        return np.ascontiguousarray(centroids[0][codes])
    return np.take_along_axis(centroids, codes.astype(np.intp), axis=1)


def _looked_up_by_group(weight: CompressedWeight) -> NDArray[np.float32]:
    codes, centroids = weight.arrays["codes"], weight.arrays["centroids"]
    found = np.empty(weight.shape, np.float32)
    group = weight.group or weight.shape[1]
    for number in range(centroids.shape[1]):
        part = slice(number * group, (number + 1) * group)
        found[:, part] = np.take_along_axis(centroids[:, number], codes[:, part].astype(np.intp), axis=1)
    return found


def _scattered(weight: CompressedWeight) -> NDArray[np.float32]:
    found = np.zeros(weight.shape, np.float32)
    starts = weight.arrays["starts"]
    rows = np.repeat(np.arange(weight.shape[0]), np.diff(starts))
    found[rows, weight.arrays["columns"]] = weight.arrays["values"]
    return found


def _multiplied(weight: CompressedWeight) -> NDArray[np.float32]:
    return np.ascontiguousarray(weight.arrays["left"] @ weight.arrays["right"])


def _widened(weight: CompressedWeight) -> NDArray[np.float32]:
    return (weight.arrays["values"].astype(np.uint32) << np.uint32(16)).view(np.float32)


_DEQUANTISED: Mapping[str, Callable[[CompressedWeight], NDArray[np.float32]]] = {
    INT8: _scaled,
    INT8_WEIGHT_ONLY: _scaled,
    CODEBOOK: _looked_up,
    GROUPED_CODEBOOK: _looked_up_by_group,
    SPARSE: _scattered,
    LOW_RANK: _multiplied,
    BFLOAT16: _widened,
}
