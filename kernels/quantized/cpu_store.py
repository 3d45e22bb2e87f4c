"""Prepared weights as named arrays for a file, and back from arrays that may lie in a memory map: nothing is copied."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kernels.quantized.cpu_codebook import CODES, STRIP
from kernels.quantized.cpu_features import (
    BFLOAT16_KERNEL,
    CODEBOOK_KERNEL,
    INT8_KERNEL,
    LOOKUP_KERNEL,
    WEIGHT_ONLY_KERNEL,
    KernelNeeds,
    choose,
)
from kernels.quantized.cpu_lookup_weights import GROUPED_LOOKUP, LOOKUP_BITS, lookup_layout, lookup_numbers
from kernels.quantized.cpu_tile import COLUMNS, DEPTH_MULTIPLE
from kernels.quantized.cpu_weights import PreparedWeights, WeightsError, prepared

_KERNELS: Mapping[str, KernelNeeds] = {
    "int8": INT8_KERNEL,
    "int8-weight-only": WEIGHT_ONLY_KERNEL,
    "bfloat16": BFLOAT16_KERNEL,
    "codebook": CODEBOOK_KERNEL,
    "grouped-codebook": CODEBOOK_KERNEL,
    **dict.fromkeys(LOOKUP_BITS, LOOKUP_KERNEL),
}
_GROUPED = ("grouped-codebook", GROUPED_LOOKUP)
_NAMES = ("panels", "scales", "sums", "tables", "group_scales")
Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name -> dtype and shape."""


def stored_arrays(weights: PreparedWeights) -> dict[str, NDArray[np.generic]]:
    """Return all that `restored` needs of prepared weights, by name."""
    arrays = (*weights.arrays[:3], *weights.arrays[4:])
    return dict(zip(_NAMES, arrays, strict=False))


def needs_of(kind: str) -> KernelNeeds:
    """Return what the processor must have for the fast products of a kind of weights."""
    return _KERNELS[kind]


def depth_of(kind: str, columns: int) -> int:
    """Return the bytes of a row of activations as the products of a kind read them, with padding."""
    depth = -(-columns // DEPTH_MULTIPLE) * DEPTH_MULTIPLE
    return depth * (4 if kind in LOOKUP_BITS else {"int8-weight-only": 4, "bfloat16": 2}.get(kind, 1))


def group_of(weights: PreparedWeights) -> int | None:
    """Return the columns of a group that has a codebook of its own; None where there are no groups."""
    return int(weights.table[9]) if weights.kind in _GROUPED else None


def numbers_of(kind: str, columns: int, group: int | None) -> tuple[int, ...]:
    """Return the numbers that stand in a table behind the address of the fourth array."""
    if kind in LOOKUP_BITS:
        return lookup_numbers(kind, columns, group)
    return () if group is None else (group, -(-columns // group))


def layout(kind: str, rows: int, columns: int, group: int | None = None) -> Layout:
    """Return the arrays of prepared weights of a kind: what a file must hold.

    Raises WeightsError for an unknown kind, a size below 1, or a group where there is none or none where there is one.
    """
    if kind not in _KERNELS:
        raise WeightsError(f"weights of the kind {kind!r} are not known; use one of {', '.join(_KERNELS)}")
    if rows < 1 or columns < 1:
        raise WeightsError(f"weights [{rows}, {columns}] are empty; a product needs a row and a column at least")
    if (kind in _GROUPED) != (group is not None) or (group is not None and (group < 1 or group % STRIP)):
        raise WeightsError(f"a group of {group} columns does not go with {kind} weights; groups have multiples of 16")
    if kind in LOOKUP_BITS:
        return lookup_layout(kind, rows, columns, group)
    panels, depth = -(-rows // COLUMNS), -(-columns // DEPTH_MULTIPLE) * DEPTH_MULTIPLE
    padded = (panels * COLUMNS,)
    groups = 1 if group is None else -(-columns // group)
    integers = kind in ("int8", "codebook")
    found: dict[str, tuple[str, tuple[int, ...]]] = {
        "panels": _panels(kind, panels, depth),
        "scales": ("float32", padded),
        "sums": ("int32" if integers else "float32", padded),
    }
    if kind.endswith("codebook"):
        found["tables"] = ("int8", (panels, COLUMNS // STRIP, groups, 4, 4, CODES))
    if group is not None:
        found["group_scales"] = ("float32", (panels * COLUMNS // STRIP, groups, STRIP))
    return found


def restored(
    kind: str, rows: int, columns: int, arrays: Mapping[str, NDArray[np.generic]], group: int | None = None
) -> PreparedWeights:
    """Return prepared weights [rows, columns] around the arrays of `stored_arrays`; they are only read.

    Raises WeightsError for an array that is missing or of another dtype, shape or order than the layout has.
    """
    wanted = layout(kind, rows, columns, group)
    for name, (dtype, shape) in wanted.items():
        array = arrays.get(name)
        if array is None:
            raise WeightsError(f"the array {name!r} of {kind} weights is missing; give {', '.join(wanted)}")
        if array.dtype != np.dtype(dtype) or array.shape != shape or not array.flags.c_contiguous:
            given = f"{array.dtype} {list(array.shape)}"
            raise WeightsError(f"the array {name!r} is {given}; {kind} weights need contiguous {dtype} {list(shape)}")
    kernel, reason = choose(_KERNELS[kind])
    numbers = numbers_of(kind, columns, group)
    found = tuple(arrays[name] for name in wanted)
    return prepared(kind, (rows, columns), kernel, reason, found, depth_of(kind, columns), numbers)


def _panels(kind: str, panels: int, depth: int) -> tuple[str, tuple[int, ...]]:
    if kind == "int8":
        return "int8", (panels, depth // 4, COLUMNS, 4)
    if kind == "int8-weight-only":
        return "int8", (panels, depth, COLUMNS)
    if kind == "bfloat16":
        return "uint16", (panels, depth // 2, COLUMNS, 2)
    return "uint8", (panels, COLUMNS // STRIP, depth // STRIP, 2, 64)
