"""Products with codebook weights: centroids of 8 bits looked up by vpshufb, summed by vpdpbusd, as compiled functions.

A panel has 64 columns in four strips of 16. A strip is [depth / 16, 2, 64] bytes; the low and the high halves of the
bytes of one step are four vectors of codes: byte b of quarter q of vector v belongs to column 4 q + v, depth b. So a
quarter needs one column's codebook only, and that is what vpshufb looks up in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from kernels.quantized.cpu_tile import COLUMNS, function_of
from kernels.quantized.cpu_vector import BYTES, FLOATS, INT64, INTEGERS, Instructions

STRIP = 16
"""Columns, and the depth of a step."""
STEP_BYTES = STRIP * STRIP // 2
CODES = 16
LARGEST_DIRECT = 4
"""Rows of a tile that looks up as it sums: 16 sums, 4 codebooks and 4 weights in registers."""
_VECTORS = 4


def pack_codes(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return codes [panels * 64, depth], below 16, as panels [panels, 4, depth / 16, 2, 64]."""
    steps = codes.shape[1] // STRIP
    # axes: strip, quarter, vector, step, depth within it
    parts = codes.reshape(-1, 4, _VECTORS, steps, STRIP)
    vectors = parts.transpose(0, 3, 2, 1, 4).reshape(-1, COLUMNS // STRIP, steps, 2, 2, 64)
    packed: NDArray[np.uint8] = vectors[..., 0, :] | vectors[..., 1, :] << np.uint8(4)
    return packed


def unpack_codes(panels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the codes [panels * 64, depth] of panels."""
    steps = panels.shape[2]
    halves = np.stack([panels & np.uint8(15), panels >> np.uint8(4)], axis=-2)
    parts = halves.reshape(-1, steps, _VECTORS, 4, STRIP).transpose(0, 3, 2, 1, 4)
    return np.ascontiguousarray(parts).reshape(-1, steps * STRIP)


def pack_tables(tables: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return codebooks [panels * 64, groups, 16] as [panels, 4, groups, 4 vectors, 4 quarters, 16]."""
    groups = tables.shape[1]
    parts = tables.reshape(-1, COLUMNS // STRIP, 4, _VECTORS, groups, CODES)
    return np.ascontiguousarray(parts.transpose(0, 1, 4, 3, 2, 5))


def codebook_tile(rows: int, native: bool = True) -> Any:
    """Return a function tile(activations, their row stride, strip, depth, tables, sums) for compiled code.

    activations: uint8 [rows, depth]. strip: packed codes of 16 columns. tables: 256 bytes. sums: int32 [rows, 16],
    rows 256 bytes apart, written.
    """

    def emit(make: Instructions, arguments: Sequence[Any]) -> None:
        activations, stride, strip, depth, tables, sums = arguments
        books = [make.load(tables, 64 * vector, BYTES) for vector in range(_VECTORS)]
        totals = _dots(make, rows, (activations, stride), strip, make.builder.lshr(depth, _integer(4)), books)
        for row in range(rows):
            total = _joined(make, totals[row * _VECTORS : (row + 1) * _VECTORS])
            make.store(total, sums, 4 * COLUMNS * row)

    return function_of(emit, native)


def grouped_tile(rows: int, native: bool = True) -> Any:
    """Return a function tile(activations, their row stride, strip, depth, groups, sums) for compiled code.

    Each group of the depth has its own codebooks and scales. groups: the address of int64 numbers: the depth of a
    group, a multiple of 16; the address of tables [groups, 256 bytes]; the address of scales, float32 [groups, 16].
    sums: float32 [rows, 16], rows 256 bytes apart, written: each group's integer sum times its scale, added up.
    """

    def emit(make: Instructions, arguments: Sequence[Any]) -> None:
        activations, stride, strip, depth, groups, sums = arguments
        builder = make.builder
        size, tables, scales = (make.load(groups, 8 * k, INT64) for k in range(3))
        count = builder.udiv(make.sum(depth, builder.sub(size, _integer(1))), size)

        def group(number: Any, carried: Sequence[Any]) -> list[Any]:
            start = builder.mul(number, size)
            left = builder.sub(depth, start)
            steps = builder.lshr(builder.select(builder.icmp_signed("<", left, size), left, size), _integer(4))
            table = make.sum(tables, make.product(number, 256))
            books = [make.load(table, 64 * vector, BYTES) for vector in range(_VECTORS)]
            place = make.sum(strip, make.product(start, STEP_BYTES // STRIP))
            totals = _dots(make, rows, (make.sum(activations, start), stride), place, steps, books)
            scale = make.load(scales, make.product(number, 64), FLOATS)
            joined = [_joined(make, totals[row * _VECTORS : (row + 1) * _VECTORS]) for row in range(rows)]
            floats = [builder.sitofp(total, FLOATS) for total in joined]
            return [make.multiply_add(value, scale, total) for value, total in zip(floats, carried, strict=True)]

        for row, total in enumerate(make.loop(count, group, [ir.Constant(FLOATS, [0.0] * 16)] * rows)):
            make.store(total, sums, 4 * COLUMNS * row)

    return function_of(emit, native)


def unpack_strip(native: bool = True) -> Any:
    """Return a function unpack(strip, depth, tables, panel, _, _) for compiled code.

    It writes the 16 columns of a strip into a panel int8 [depth / 4, 64, 4] for int8_tile; panel: the address of the
    first of the columns.
    """

    def emit(make: Instructions, arguments: Sequence[Any]) -> None:
        strip, depth, tables, panel, _, _ = arguments
        books = [make.load(tables, 64 * vector, BYTES) for vector in range(_VECTORS)]

        def body(step: Any, carried: Sequence[Any]) -> list[Any]:
            weights = _looked_up(make, strip, step, books)
            for number, vector in enumerate(_transposed(make, weights)):
                make.store(vector, panel, make.sum(make.product(step, 4 * 4 * COLUMNS), 4 * COLUMNS * number))
            return []

        make.loop(make.builder.lshr(depth, _integer(4)), body, [])

    return function_of(emit, native)


def _dots(
    make: Instructions, rows: int, activations: tuple[Any, Any], strip: Any, steps: Any, books: Sequence[Any]
) -> list[Any]:
    """Return the sums of a strip: four vectors a row, of each column four sums side by side."""
    address, stride = activations
    starts = [make.product(stride, row) if row else 0 for row in range(rows)]

    def body(step: Any, totals: Sequence[Any]) -> list[Any]:
        result = list(totals)
        weights = _looked_up(make, strip, step, books)
        for row in range(rows):
            factor = make.broadcast_table(address, make.sum(starts[row], make.product(step, STRIP)))
            for vector in range(_VECTORS):
                own = row * _VECTORS + vector
                result[own] = make.dot(result[own], factor, weights[vector])
        return result

    return make.loop(steps, body, [ir.Constant(INTEGERS, [0] * 16)] * (rows * _VECTORS))


def _looked_up(make: Instructions, strip: Any, step: Any, books: Sequence[Any]) -> list[Any]:
    """Return the weights of one step: four vectors.

    The processor's own prefetching keeps up with the one stream within a page: cpu_pages makes pages large.
    """
    weights: list[Any] = []
    for half in range(2):
        place = make.sum(make.product(step, STEP_BYTES), 64 * half)
        weights.extend(make.nibbles(make.load(strip, place, BYTES)))
    return [make.look_up(book, codes) for book, codes in zip(books, weights, strict=True)]


def _in_quarters(make: Instructions, left: Any, right: Any, lanes: Sequence[int]) -> Any:
    """Return the named lanes in each quarter of two vectors: 0 to 3 of the left one, 4 to 7 of the right one."""
    chosen = [4 * quarter + (lane if lane < 4 else lane + 12) for quarter in range(4) for lane in lanes]
    return make.shuffle(left, right, chosen)


def _joined(make: Instructions, totals: Sequence[Any]) -> Any:
    """Return the 16 columns' sums of four vectors, in the columns' order."""

    def halved(left: Any, right: Any, lower: Sequence[int], upper: Sequence[int]) -> Any:
        parts = (_in_quarters(make, left, right, lanes) for lanes in (lower, upper))
        return make.builder.add(*parts)

    pairs = [halved(totals[k], totals[k + 1], (0, 4, 1, 5), (2, 6, 3, 7)) for k in (0, 2)]
    return halved(pairs[0], pairs[1], (0, 1, 4, 5), (2, 3, 6, 7))


def _transposed(make: Instructions, vectors: Sequence[Any]) -> list[Any]:
    """Return four vectors with rows and columns of each quarter's 4 x 4 integers exchanged."""
    integers = [make.builder.bitcast(vector, INTEGERS) for vector in vectors]
    result = []
    for lanes in ((0, 4, 1, 5), (2, 6, 3, 7)):
        left, right = (_in_quarters(make, integers[k], integers[k + 1], lanes) for k in (0, 2))
        result += [_in_quarters(make, left, right, halves) for halves in ((0, 1, 4, 5), (2, 3, 6, 7))]
    return [make.bytes_of(vector) for vector in result]


def _integer(value: int) -> Any:
    return ir.Constant(INT64, value)
