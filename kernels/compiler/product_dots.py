"""One tile of a product whose factors both lie along the depth, as a weight [columns, depth] does; it reads ahead.

Few rows leave a weight little time in the caches: what the next tile reads is fetched while this one is computed.
Self-contained but for gemm_depth.py, gemm_vector.py and intrinsics.py: an exported artifact carries them beside its
kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
from llvmlite import ir
from numba import extending

from kernels.compiler.gemm_depth import sum_in_blocks
from kernels.compiler.gemm_vector import FLOAT, INT32, INT64, Memory, Vectors

types: Any = numba.types
_BYTES = ir.IntType(8).as_pointer()
_SECOND_LEVEL = 1
"""The locality of a prefetch: a panel of a deep weight is larger than the first-level cache."""


@dataclass(frozen=True, slots=True)
class Dots:
    """C[row, column] = sum over k of A[row, k] * B[column, k], k adjacent in both.

    rows, columns: the tile's size; a, b, c: from row to row of A, from column to column of B, from row to row of C, in
    elements. ahead: columns from the fetched address on that are fetched. scopes: of A, B and C.
    """

    rows: int
    columns: int
    depth: int
    a: int
    b: int
    c: int
    width: int
    fused: bool
    ahead: int
    scopes: tuple[int, int, int]


def product_dots(rows: int, columns: int, depth: int, **options: Any) -> Any:
    """Return a function tile(address of A, of B, of C, of what is to be fetched) for compiled code.

    The arguments are those of Dots.
    """
    tile = Dots(rows, columns, depth, **options)

    def product(typing_context: Any, a: Any, b: Any, c: Any, fetched: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointers = [builder.inttoptr(address, FLOAT.as_pointer()) for address in arguments[:3]]
            _emit(tile, builder, list(map(Memory, pointers, tile.scopes)), arguments[3])
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64, types.int64), generate

    return extending.intrinsic(product)


def _emit(tile: Dots, builder: Any, memories: Sequence[Memory], fetched: Any) -> None:
    vectors = Vectors(builder, tile.width, tile.fused)
    a, b, c = memories
    rows, columns = range(tile.rows), range(tile.columns)

    def products(step: Any, sums: Sequence[Any], lanes: int = tile.width) -> list[Any]:
        left = [vectors.load(a, vectors.index((row, tile.a), (step, tile.width)), lanes) for row in rows]
        result = list(sums)
        for column in columns:
            right = vectors.load(b, vectors.index((column, tile.b), (step, tile.width)), lanes)
            for row in rows:
                own = row * tile.columns + column
                result[own] = vectors.multiply_add(left[row], right, result[own])
        for column in range(tile.ahead):
            _fetch(vectors, fetched, vectors.index((step, 4 * tile.width), (column, 4 * tile.b)))
        return result

    def put(sums: Sequence[Any], accumulate: bool) -> None:
        for row in rows:
            _put_row(vectors, c, row * tile.c, sums[row * tile.columns : (row + 1) * tile.columns], accumulate)

    steps, rest = divmod(tile.depth, tile.width)
    sums = [vectors.zero()] * (tile.rows * tile.columns)
    sum_in_blocks(vectors, steps, products(steps, sums, rest) if rest else sums, products, put, False)


def _put_row(vectors: Vectors, c: Memory, begin: int, sums: Sequence[Any], accumulate: bool) -> None:
    """Store the totals of one row's sums, as many at a time as a vector of them can be folded together."""
    first = 0
    while first < len(sums):
        count = min(1 << (len(sums) - first).bit_length() - 1, vectors.width)
        index = vectors.index((begin + first, 1))
        if count == 1:
            total = vectors.total(sums[first])
            total = vectors.add(vectors.load_element(c, index), total) if accumulate else total
            vectors.store_element(c, index, total)
        else:
            total = vectors.totals(sums[first : first + count])
            total = vectors.add(vectors.load_all(c, index, total.type), total) if accumulate else total
            vectors.store_all(c, index, total)
        first += count


def _fetch(vectors: Vectors, address: Any, offset: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [_BYTES, INT32, INT32, INT32])
    function = vectors._declared("llvm.prefetch.p0", kind)
    place = vectors.builder.add(address, ir.Constant(INT64, offset) if isinstance(offset, int) else offset)
    numbers = [ir.Constant(INT32, number) for number in (0, _SECOND_LEVEL, 1)]
    vectors.builder.call(function, [vectors.builder.inttoptr(place, _BYTES), *numbers])
