"""Quantized weights as panels that compiled products read: repacked once, then only read.

Panels have 64 columns of the product, which are rows of the weights; the last one is filled up with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kernels.quantized.cpu_codebook import CODES, STRIP, pack_codes, pack_tables
from kernels.quantized.cpu_features import BFLOAT16_KERNEL, CODEBOOK_KERNEL, INT8_KERNEL, WEIGHT_ONLY_KERNEL, choose
from kernels.quantized.cpu_tile import COLUMNS, DEPTH_MULTIPLE, STEP_COLUMNS

_BOOK_SIZES = ((2,), (4,), (8,), (16,))
LARGEST_COLUMNS = (2**31 - 1) // (255 * 128)

"""Of a row whose sums surely fit 32 bits."""


class WeightsError(ValueError):
    """Weights that no product takes; the message names what was given and what is needed."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedWeights:
    """Weights [rows, columns] for `product`, as one kernel wants them; safe to share between threads.

    kind:    "int8", "codebook", "int8-weight-only", "grouped-codebook", "bfloat16", or one of
             cpu_lookup_weights.LOOKUP_BITS.
    kernel:  which kernel reads them, e.g. "avx512-vnni".
    reason:  why it is the portable one; empty if it is not.
    table:   addresses and sizes for compiled code: panels, scales, sums, zeros as a bias, rows, columns, depth, panels.
    address: of the table.
    arrays:  the memory behind the table.
    """

    kind: str
    rows: int
    columns: int
    kernel: str
    reason: str
    arrays: tuple[NDArray[np.generic], ...] = field(repr=False)
    table: NDArray[np.int64] = field(repr=False)
    address: int = field(repr=False)

    @property
    def bytes(self) -> int:
        """Return the bytes of all that a product reads of the weights."""
        return sum(array.nbytes for array in self.arrays)

    @property
    def depth(self) -> int:
        """Return the bytes of a row of activations as the kernel reads them, with padding."""
        return int(self.table[6])


def int8_weights(values: NDArray[np.int8], scales: NDArray[np.float32]) -> PreparedWeights:
    """Return int8 weights [rows, columns] with a scale for each row, prepared for activations that are quantised.

    Raises WeightsError for another shape or dtype, an empty matrix, scales that are not finite, or more columns than
    the sums have room for.
    """
    check_matrix(values, np.dtype(np.int8))
    check_scales(scales, (len(values),))
    rows, columns = values.shape
    panels = -(-rows // COLUMNS)
    depth = -(-columns // DEPTH_MULTIPLE) * DEPTH_MULTIPLE
    padded = np.zeros((panels * COLUMNS, depth), np.int8)
    padded[:rows, :columns] = values
    steps = padded.reshape(panels, COLUMNS, depth // STEP_COLUMNS, STEP_COLUMNS)
    packed = aligned(np.swapaxes(steps, 1, 2))
    kernel, reason = choose(INT8_KERNEL)
    sums = padded.sum(axis=1, dtype=np.int32)
    return prepared("int8", values.shape, kernel, reason, (packed, per_panel(scales, panels), sums), depth)


def weight_only_weights(values: NDArray[np.int8], scales: NDArray[np.float32]) -> PreparedWeights:
    """Return int8 weights [rows, columns] with a scale for each row, prepared for activations that stay float32.

    Raises WeightsError as int8_weights does.
    """
    check_matrix(values, np.dtype(np.int8))
    check_scales(scales, (len(values),))
    rows, columns = values.shape
    panels = -(-rows // COLUMNS)
    depth = -(-columns // DEPTH_MULTIPLE) * DEPTH_MULTIPLE
    padded = np.zeros((panels * COLUMNS, depth), np.int8)
    padded[:rows, :columns] = values
    packed = aligned(np.swapaxes(padded.reshape(panels, COLUMNS, depth), 1, 2))
    kernel, reason = choose(WEIGHT_ONLY_KERNEL)
    arrays = (packed, per_panel(scales, panels), np.zeros(panels * COLUMNS, np.float32))
    return prepared("int8-weight-only", values.shape, kernel, reason, arrays, 4 * depth)


def codebook_weights(
    codes: NDArray[np.uint8], centroids: NDArray[np.float32], group: int | None = None
) -> PreparedWeights:
    """Return weights centroids[code] prepared for activations that are quantised; codes [rows, columns].

    centroids: float32 [1, 2**bits] for one codebook, [rows, 2**bits] for one a row, or [rows, groups, 2**bits] for one
    a group of `group` neighbouring columns (a multiple of 16); bits from 1 to 4. They are rounded to 8 bits: each
    codebook's largest becomes 127.
    Raises WeightsError for another shape or dtype, centroids that are not finite, or a code without a centroid.
    """
    check_matrix(codes, np.dtype(np.uint8))
    rows, columns = codes.shape
    books = checked_books(codes, centroids, group)
    panels = -(-rows // COLUMNS)
    depth = -(-columns // DEPTH_MULTIPLE) * DEPTH_MULTIPLE
    tables, scales = quantised_tables(books)
    padded = np.zeros((panels * COLUMNS, depth), np.uint8)
    padded[:rows, :columns] = codes
    all_tables = np.zeros((panels * COLUMNS, books.shape[1], CODES), np.int8)
    all_tables[:rows, :, : books.shape[2]] = tables
    sums = _sums(padded, all_tables, depth if group is None else group)
    packed, packed_tables = aligned(pack_codes(padded)), aligned(pack_tables(all_tables))
    kernel, reason = choose(CODEBOOK_KERNEL)
    shape = (rows, columns)
    if group is None:
        arrays = (packed, per_panel(scales[:, 0], panels), sums[:, 0], packed_tables)
        return prepared("codebook", shape, kernel, reason, arrays, depth)
    all_scales = np.zeros((panels * COLUMNS, books.shape[1]), np.float32)
    all_scales[:rows] = scales
    weighted = (sums * all_scales.astype(np.float64)).sum(axis=1).astype(np.float32)
    strips = aligned(np.swapaxes(all_scales.reshape(-1, STRIP, books.shape[1]), 1, 2))
    ones = per_panel(np.ones(rows, np.float32), panels)
    grouped = (packed, ones, weighted, packed_tables, strips)
    return prepared("grouped-codebook", shape, kernel, reason, grouped, depth, (group, books.shape[1]))


def bfloat16_weights(values: NDArray[np.float32]) -> PreparedWeights:
    """Return float32 weights [rows, columns] rounded to bfloat16, prepared for activations that are rounded too.

    Raises WeightsError for another shape or dtype, or an empty matrix.
    """
    check_matrix(values, np.dtype(np.float32))
    rows, columns = values.shape
    panels = -(-rows // COLUMNS)
    depth = 2 * (-(-columns // DEPTH_MULTIPLE) * DEPTH_MULTIPLE)
    padded = np.zeros((panels * COLUMNS, depth // 2), np.uint16)
    padded[:rows, :columns] = bfloat16_bits(values)
    packed = aligned(np.swapaxes(padded.reshape(panels, COLUMNS, depth // 4, 2), 1, 2))
    kernel, reason = choose(BFLOAT16_KERNEL)
    unused = np.zeros(panels * COLUMNS, np.float32)
    return prepared("bfloat16", values.shape, kernel, reason, (packed, unused, unused), depth)


def bfloat16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return float32 values rounded to bfloat16, to the nearest even, as their bits; NaN stays NaN."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + (((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF))) >> np.uint32(16)
    kept = np.where(np.isnan(values), bits >> np.uint32(16) | np.uint32(0x40), rounded)
    return kept.astype(np.uint16)


def quantised_tables(books: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return codebooks [..., centroids] as int8 and the scale of each: the largest centroid becomes 127."""
    largest = np.abs(books).max(axis=-1).astype(np.float32)
    # an even smaller scale would make the quotient overflow
    scales = np.maximum(largest / np.float32(127), np.float32(1e-38))
    return np.rint(books / scales[..., None]).astype(np.int8), scales


def checked_books(codes: NDArray[np.uint8], centroids: NDArray[np.float32], group: int | None) -> NDArray[np.float32]:
    """Return centroids as [rows, groups, 2**bits]. Raises WeightsError unless they go with the codes."""
    rows, columns = codes.shape
    given = f"centroids {centroids.dtype} {list(centroids.shape)}"
    if group is not None and (group < 1 or group % STRIP):
        raise WeightsError(f"groups of {group} columns cannot be prepared; give a multiple of {STRIP}")
    groups = 1 if group is None else -(-columns // group)
    shapes: list[tuple[int, ...]] = [(rows, groups)] if group is not None else [(1,), (rows,)]
    if centroids.dtype != np.float32 or centroids.shape[:-1] not in shapes or centroids.shape[-1:] not in _BOOK_SIZES:
        wanted = " or ".join(str([*shape, "2, 4, 8 or 16"]).replace("'", "") for shape in shapes)
        raise WeightsError(f"{given} do not go with codes {list(codes.shape)}; give float32 {wanted}")
    if not np.isfinite(centroids).all():
        raise WeightsError(f"{given} are not all finite; fit codebooks to finite weights")
    if int(codes.max()) >= centroids.shape[-1]:
        raise WeightsError(f"the code {int(codes.max())} has no centroid; a codebook has {centroids.shape[-1]}")
    return np.broadcast_to(centroids.reshape(-1, groups, centroids.shape[-1]), (rows, groups, centroids.shape[-1]))


def _sums(codes: NDArray[np.uint8], tables: NDArray[np.int8], group: int) -> NDArray[np.int32]:
    """Return the sum of the weights of each row and group, padding included: its activations are zeros as well."""
    groups = tables.shape[1]
    sums = np.zeros((len(codes), groups), np.int32)
    for number in range(groups):
        part = codes[:, number * group : (number + 1) * group]
        sums[:, number] = np.take_along_axis(tables[:, number], part, axis=1).sum(axis=1, dtype=np.int32)
    return sums


def prepared(
    kind: str,
    shape: tuple[int, ...],
    kernel: str,
    reason: str,
    arrays: tuple[NDArray[np.generic], ...],
    depth: int,
    numbers: tuple[int, ...] = (),
) -> PreparedWeights:
    """Return prepared weights of panels, scales, sums and more arrays.

    Behind the table's first eight numbers come the address of the fourth array, `numbers`, and the other addresses.
    """
    panels = -(-shape[0] // COLUMNS)
    arrays = (*arrays[:3], np.zeros(panels * COLUMNS, np.float32), *arrays[3:])
    addresses = [array.ctypes.data for array in arrays]
    sizes = (shape[0], shape[1], depth, panels)
    table = np.array([*addresses[:4], *sizes, *addresses[4:5], *numbers, *addresses[5:]], np.int64)
    return PreparedWeights(kind, shape[0], shape[1], kernel, reason, arrays, table, table.ctypes.data)


def aligned(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return a contiguous copy that starts at a multiple of 64 bytes: a vector is then in one line."""
    room = np.empty(values.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def per_panel(values: NDArray[np.float32], panels: int) -> NDArray[np.float32]:
    """Return one value a row, with zeros for the rows that fill up the last panel."""
    padded = np.zeros(panels * COLUMNS, np.float32)
    padded[: len(values)] = values
    return padded


def check_matrix(values: NDArray[np.generic], dtype: np.dtype[np.generic]) -> None:
    """Raise WeightsError unless the values are a matrix of a dtype that is not empty and has not too many columns."""
    given = f"{values.dtype} {list(values.shape)}"
    if values.ndim != 2 or values.dtype != dtype:
        raise WeightsError(f"weights {given} cannot be prepared; give {dtype} [rows, columns]")
    if values.size == 0:
        raise WeightsError(f"weights {given} are empty; a product needs a row and a column at least")
    if values.shape[1] > LARGEST_COLUMNS:
        raise WeightsError(f"weights {given} have sums beyond 32 bits; give at most {LARGEST_COLUMNS} columns")


def check_scales(scales: NDArray[np.generic], shape: tuple[int, ...]) -> None:
    """Raise WeightsError unless the scales are finite float32 of a shape."""
    if scales.dtype != np.float32 or scales.shape != shape:
        given = f"{scales.dtype} {list(scales.shape)}"
        raise WeightsError(f"scales {given} do not go with the weights; give float32 {list(shape)}")
    wrong = np.argwhere(~np.isfinite(scales))
    if len(wrong):
        place = tuple(int(k) for k in wrong[0])
        raise WeightsError(f"the scale {scales[place]} at {list(place)} is not finite; quantise finite weights")
