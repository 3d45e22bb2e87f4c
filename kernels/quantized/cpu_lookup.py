"""Products with codebook weights and float32 activations: centroids looked up by vpermps, as compiled functions.

A panel has 64 columns in sixteen strips of 4. The codes of a column lie in words of 32 bits, one a lane: lane l has
those of the depths l, 16 + l, 32 + l and so on, the first in the lowest bits. So a vector of words serves 32 // bits
vectors of the depth: each time it is shifted, and vpermps looks at its low bits. Where the depth ends before a whole
vector of words, bytes lie in the place of words. Each group of the depth begins anew. The four columns' vectors of a
strip lie side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from kernels.quantized.cpu_tile import COLUMNS, STREAM_AHEAD, function_of
from kernels.quantized.cpu_vector import FLOAT, FLOATS, INT64, INTEGERS, LANES, TABLE, Instructions

STRIP_COLUMNS = 4
STRIPS = COLUMNS // STRIP_COLUMNS
LARGEST_LOOKUP = 5
"""Rows of a tile: 20 sums in registers, and the codes and codebooks of four columns beside them; measured."""
GROUP_NUMBERS = 32
"""Bytes of what a tile is told of the groups."""
_UNROLLED = 2


def strip_bytes(depth: int, bits: int, group: int) -> int:
    """Return the bytes of a strip's codes; depth and group in weights, multiples of 16."""
    whole, rest = divmod(depth, group)
    return whole * _group_bytes(group // LANES, bits) + (_group_bytes(rest // LANES, bits) if rest else 0)


def pack_lanes(codes: NDArray[np.uint8], bits: int, group: int) -> NDArray[np.uint8]:
    """Return codes [panels * 64, depth] as panels [panels, 16, strip_bytes]; depth and group are multiples of 16."""
    strips = codes.reshape(-1, STRIP_COLUMNS, codes.shape[1] // LANES, LANES)
    step = group // LANES
    parts = [_packed(strips[:, :, first : first + step], bits) for first in range(0, strips.shape[2], step)]
    return np.concatenate(parts, axis=1).reshape(-1, STRIPS, strip_bytes(codes.shape[1], bits, group))


def unpack_lanes(panels: NDArray[np.uint8], depth: int, bits: int, group: int) -> NDArray[np.uint8]:
    """Return the codes [panels * 64, depth] of panels."""
    strips = panels.reshape(-1, panels.shape[-1])
    found, place = [], 0
    for first in range(0, depth, group):
        vectors = min(group, depth - first) // LANES
        size = _group_bytes(vectors, bits)
        found.append(_unpacked(strips[:, place : place + size], vectors, bits))
        place += size
    return np.concatenate(found, axis=2).reshape(-1, depth)


def lookup_tile(rows: int, bits: int, native: bool = True) -> Any:
    """Return a function tile(activations, their row stride, strip, vectors, groups, sums) for compiled code.

    activations: float32 [rows, 16 * vectors], the stride in bytes. strip: the packed codes of 4 columns. groups: the
    address of int64 numbers: the vectors of a group; the addresses of its tables, int8 [4, groups, 16], and scales,
    float32 [4, groups]; how many groups. A table of fewer bits than 4 holds its centroids again and again.
    sums: float32 [rows, 4], rows 256 bytes apart, written.
    """

    def emit(make: Instructions, arguments: Sequence[Any]) -> None:
        activations, stride, strip, vectors, groups, sums = arguments
        builder = make.builder
        size, tables, scales, count = (make.load(groups, 8 * k, INT64) for k in range(4))
        starts = [make.sum(activations, make.product(stride, row)) for row in range(rows)]
        words, short = 32 // bits, 8 // bits

        def group(number: Any, carried: Sequence[Any]) -> list[Any]:
            *totals, place = carried
            first = builder.mul(number, size)
            own = _smaller(make, builder.sub(vectors, first), size)
            books = [
                _table(make, tables, scales, builder.add(builder.mul(count, _integer(c)), number)) for c in range(4)
            ]
            blocks = builder.udiv(own, _integer(words))
            rest = builder.sub(own, make.product(blocks, words))
            chunks = builder.udiv(make.sum(rest, short - 1), _integer(short))

            def block(step: Any, sums_so_far: Sequence[Any]) -> list[Any]:
                at = make.sum(place, make.product(step, 64 * STRIP_COLUMNS))
                codes = [make.load(at, 64 * column, INTEGERS) for column in range(STRIP_COLUMNS)]
                for column in range(STRIP_COLUMNS):
                    make.prefetch(at, STREAM_AHEAD + 64 * column)
                begin = make.sum(first, make.product(step, words))
                return _steps(make, bits, starts, begin, books, codes, sums_so_far, _integer(words), _UNROLLED)

            totals = make.loop(blocks, block, totals)
            tail = make.sum(place, make.product(blocks, 64 * STRIP_COLUMNS))
            behind = make.sum(first, make.product(blocks, words))

            def chunk(step: Any, sums_so_far: Sequence[Any]) -> list[Any]:
                at = make.sum(tail, make.product(step, LANES * STRIP_COLUMNS))
                narrow = [make.load(at, LANES * column, TABLE) for column in range(STRIP_COLUMNS)]
                codes = [builder.zext(vector, INTEGERS) for vector in narrow]
                done = make.product(step, short)
                left = _smaller(make, builder.sub(rest, done), _integer(short))
                return _steps(make, bits, starts, make.sum(behind, done), books, codes, sums_so_far, left, 1)

            totals = make.loop(chunks, chunk, totals)
            return [*totals, make.sum(tail, make.product(chunks, LANES * STRIP_COLUMNS))]

        zeros = [ir.Constant(FLOATS, [0.0] * LANES)] * (rows * STRIP_COLUMNS)
        *totals, _ = make.loop(count, group, [*zeros, strip])
        for row in range(rows):
            make.store(_added(make, totals[row * STRIP_COLUMNS : (row + 1) * STRIP_COLUMNS]), sums, 4 * COLUMNS * row)

    return function_of(emit, native)


def _steps(
    make: Instructions,
    bits: int,
    starts: Sequence[Any],
    begin: Any,
    books: Sequence[Any],
    codes: Sequence[Any],
    totals: Sequence[Any],
    vectors: Any,
    unrolled: int,
) -> list[Any]:
    """Return the sums after so many vectors of the depth, a multiple of `unrolled`, with the codes in some words."""
    shift, rows = ir.Constant(INTEGERS, [bits] * LANES), len(starts)

    def body(step: Any, carried: Sequence[Any]) -> list[Any]:
        sums, words = list(carried[: len(totals)]), list(carried[len(totals) :])
        place = make.product(make.sum(begin, make.product(step, unrolled)), 64)
        for part in range(unrolled):
            weights = [make.permute(book, word) for book, word in zip(books, words, strict=True)]
            for row in range(rows):
                factor = make.load(starts[row], make.sum(place, 64 * part), FLOATS)
                for column, weight in enumerate(weights):
                    own = row * STRIP_COLUMNS + column
                    sums[own] = make.multiply_add(factor, weight, sums[own])
            words = [make.builder.lshr(word, shift) for word in words]
        return [*sums, *words]

    steps = vectors if unrolled == 1 else make.builder.udiv(vectors, _integer(unrolled))
    return make.loop(steps, body, [*totals, *codes])[: len(totals)]


def _table(make: Instructions, tables: Any, scales: Any, number: Any) -> Any:
    """Return one codebook as 16 float32: exactly what its bytes and its scale stand for."""
    whole = make.builder.sext(make.load(tables, make.product(number, LANES), TABLE), INTEGERS)
    scale = make.broadcast(scales, make.product(number, 4), FLOAT)
    return make.builder.fmul(make.builder.sitofp(whole, FLOATS), scale)


def _added(make: Instructions, totals: Sequence[Any]) -> Any:
    """Return the sums of the lanes of four vectors, as four float32."""
    builder = make.builder

    def quarters(left: Any, right: Any, lanes: Sequence[int]) -> Any:
        """Return lanes of each quarter: 0 to 3 of the left vector, 4 to 7 of the right one."""
        chosen = [4 * quarter + (lane if lane < 4 else lane + 12) for quarter in range(4) for lane in lanes]
        return make.shuffle(left, right, chosen)

    def halved(left: Any, right: Any, lower: Sequence[int], upper: Sequence[int]) -> Any:
        return builder.fadd(quarters(left, right, lower), quarters(left, right, upper))

    pairs = [halved(totals[k], totals[k + 1], (0, 4, 1, 5), (2, 6, 3, 7)) for k in (0, 2)]
    total = halved(pairs[0], pairs[1], (0, 1, 4, 5), (2, 3, 6, 7))
    for distance in (8, 4):
        total = builder.fadd(total, make.shuffle(total, total, [lane ^ distance for lane in range(LANES)]))
    return make.shuffle(total, total, range(STRIP_COLUMNS))


def _smaller(make: Instructions, left: Any, right: Any) -> Any:
    return make.builder.select(make.builder.icmp_signed("<", left, right), left, right)


def _integer(value: int) -> Any:
    return ir.Constant(INT64, value)


def _group_bytes(vectors: int, bits: int) -> int:
    blocks, rest = divmod(vectors, 32 // bits)
    return STRIP_COLUMNS * (64 * blocks + LANES * -(-rest // (8 // bits)))


def _packed(part: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Return the codes [strips, 4, vectors, 16] of one group as bytes [strips, …]."""
    whole = part.shape[2] // (32 // bits) * (32 // bits)
    words = _joined(part[:, :, :whole], bits, np.dtype("<u4"))
    chunks = _joined(part[:, :, whole:], bits, np.dtype(np.uint8))
    return np.concatenate([words.view(np.uint8).reshape(len(part), -1), chunks.reshape(len(part), -1)], axis=1)


def _joined(part: NDArray[np.uint8], bits: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the codes of as many vectors as fit into a number of a dtype, joined: [strips, numbers, 4, 16]."""
    each = 8 * dtype.itemsize // bits
    strips, columns, vectors, _ = part.shape
    numbers = -(-vectors // each)
    padded = np.zeros((strips, columns, numbers * each, LANES), dtype)
    padded[:, :, :vectors] = part
    by_number = padded.reshape(strips, columns, numbers, each, LANES)
    total = np.zeros((strips, columns, numbers, LANES), dtype)
    for place in range(each):
        total |= by_number[:, :, :, place] << dtype.type(bits * place)
    return np.ascontiguousarray(np.swapaxes(total, 1, 2))


def _unpacked(packed: NDArray[np.uint8], vectors: int, bits: int) -> NDArray[np.uint8]:
    """Return the codes [strips, 4, 16 * vectors] of one group."""
    strips, blocks = len(packed), vectors // (32 // bits)
    split = blocks * 64 * STRIP_COLUMNS
    words = np.ascontiguousarray(packed[:, :split]).view("<u4").reshape(strips, blocks, STRIP_COLUMNS, LANES)
    chunks = packed[:, split:].reshape(strips, -1, STRIP_COLUMNS, LANES)
    found = np.concatenate([_split(words, bits), _split(chunks, bits)], axis=2)
    return found[:, :, :vectors].reshape(strips, STRIP_COLUMNS, -1)


def _split(numbers: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Return the codes in numbers [strips, numbers, 4, 16] as [strips, 4, vectors, 16]."""
    each = 8 * numbers.dtype.itemsize // bits
    mask = numbers.dtype.type((1 << bits) - 1)
    parts = [(numbers >> numbers.dtype.type(bits * place)) & mask for place in range(each)]
    codes = np.stack(parts, axis=2).astype(np.uint8)
    strips, count = numbers.shape[:2]
    return np.moveaxis(codes.reshape(strips, count * each, STRIP_COLUMNS, LANES), 2, 1)
