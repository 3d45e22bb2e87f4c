"""Codebook weights for products that leave activations in float32: their kinds, and panels of codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.quantized.cpu_codebook import CODES
from kernels.quantized.cpu_features import LOOKUP_KERNEL, choose
from kernels.quantized.cpu_lookup import STRIPS, pack_lanes, strip_bytes
from kernels.quantized.cpu_tile import COLUMNS, DEPTH_MULTIPLE
from kernels.quantized.cpu_weights import (
    PreparedWeights,
    aligned,
    check_matrix,
    checked_books,
    per_panel,
    prepared,
    quantised_tables,
)

_KIND = "codebook-float-"
GROUPED_LOOKUP = "grouped-codebook-float"
LOOKUP_BITS = {**{f"{_KIND}{bits}": bits for bits in (1, 2, 3, 4)}, GROUPED_LOOKUP: 4}
"""By kind: the bits that a code takes."""


def lookup_kind(bits: int, grouped: bool = False) -> str:
    """Return the kind of codebook weights with codes of so many bits, 1 to 4."""
    return GROUPED_LOOKUP if grouped else f"{_KIND}{bits}"


def lookup_weights(
    codes: NDArray[np.uint8], centroids: NDArray[np.float32], group: int | None = None
) -> PreparedWeights:
    """Return weights centroids[code] prepared for activations that stay float32; codes [rows, columns].

    centroids and group: as cpu_weights.codebook_weights takes them, rounded to 8 bits alike.
    Raises WeightsError as it does.
    """
    check_matrix(codes, np.dtype(np.uint8))
    books = checked_books(codes, centroids, group)
    rows, columns = codes.shape
    kind = lookup_kind(max(1, (books.shape[2] - 1).bit_length()), group is not None)
    panels, depth = -(-rows // COLUMNS), padded_columns(columns)
    padded = np.zeros((panels * COLUMNS, depth), np.uint8)
    padded[:rows, :columns] = codes
    tables, scales = quantised_tables(books)
    all_tables = np.zeros((panels * COLUMNS, books.shape[1], CODES), np.int8)
    # a code of fewer bits has those of its neighbours above it when it is looked up
    all_tables[:rows] = np.tile(tables, CODES // books.shape[2])
    packed = aligned(pack_lanes(padded, LOOKUP_BITS[kind], group or depth))
    unused = np.zeros(panels * COLUMNS, np.float32)
    kernel, reason = choose(LOOKUP_KERNEL)
    numbers = lookup_numbers(kind, columns, group)
    if group is None:
        arrays = (packed, per_panel(scales[:, 0], panels), unused, aligned(all_tables))
        return prepared(kind, (rows, columns), kernel, reason, arrays, 4 * depth, numbers)
    all_scales = np.zeros((panels * COLUMNS, books.shape[1]), np.float32)
    all_scales[:rows] = scales
    ones = per_panel(np.ones(rows, np.float32), panels)
    grouped = (packed, ones, unused, aligned(all_tables), all_scales)
    return prepared(kind, (rows, columns), kernel, reason, grouped, 4 * depth, numbers)


def lookup_numbers(kind: str, columns: int, group: int | None) -> tuple[int, int, int]:
    """Return what compiled code is told of the groups: columns of one, how many, bytes of a strip's codes."""
    depth = padded_columns(columns)
    size = group or depth
    return size, -(-columns // size), strip_bytes(depth, LOOKUP_BITS[kind], size)


def lookup_layout(kind: str, rows: int, columns: int, group: int | None) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the arrays of a kind, as cpu_store.layout does."""
    panels = -(-rows // COLUMNS)
    _, groups, size = lookup_numbers(kind, columns, group)
    padded = panels * COLUMNS
    found: dict[str, tuple[str, tuple[int, ...]]] = {
        "panels": ("uint8", (panels, STRIPS, size)),
        "scales": ("float32", (padded,)),
        "sums": ("float32", (padded,)),
        "tables": ("int8", (padded, groups, CODES)),
    }
    return found if group is None else found | {"group_scales": ("float32", (padded, groups))}


def padded_columns(columns: int) -> int:
    """Return the columns of a row with padding."""
    return -(-columns // DEPTH_MULTIPLE) * DEPTH_MULTIPLE
