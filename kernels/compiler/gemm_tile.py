"""One tile of a matrix product as a function for generated kernels; its sums stay in registers along the depth.

Self-contained but for gemm_depth.py, gemm_vector.py and intrinsics.py: an exported artifact carries them beside its
kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numba
from numba import extending

from kernels.compiler.gemm_depth import sum_in_blocks
from kernels.compiler.gemm_vector import FLOAT, Memory, Vectors

types: Any = numba.types


@dataclass(frozen=True, slots=True)
class Tile:
    """C[row, group, column] = sum over k of A[row, k] * B[k, group, column]: one tile of it.

    rows, groups, columns: the tile's size; depth: of the sum.
    a: strides (row, k); b: strides (k, group, column); c: strides (row, group, column), in elements.
    width, fused: see Vectors.  accumulate: add to C instead of replacing it.
    whole: the memory of B, of C, has whole vectors, so that what lies behind `columns` may be touched.
    scopes: of A, B and C.
    """

    rows: int
    groups: int
    columns: int
    depth: int
    a: tuple[int, int]
    b: tuple[int, int, int]
    c: tuple[int, int, int]
    width: int
    fused: bool = True
    accumulate: bool = False
    whole: tuple[bool, bool] = (False, False)
    scopes: tuple[int, int, int] = (0, 1, 2)


def gemm_tile(rows: int, groups: int, columns: int, depth: int, **options: Any) -> Any:
    """Return a function tile(address of A, of B, of C) for compiled code; the arguments are Tile's.

    The columns of B and of C are adjacent: their strides are 1.
    """
    return _function(_emit_tile, Tile(rows, groups, columns, depth, **options))


def gemm_dots(rows: int, groups: int, columns: int, depth: int, **options: Any) -> Any:
    """Return the same as gemm_tile for A and B whose k are adjacent: each element of the tile is a dot product."""
    return _function(_emit_dots, Tile(rows, groups, columns, depth, **options))


def _function(emit: Callable[[Tile, Any, Memory, Memory, Memory], None], tile: Tile) -> Any:
    def product(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointers = [builder.inttoptr(address, FLOAT.as_pointer()) for address in arguments]
            emit(tile, builder, *map(Memory, pointers, tile.scopes))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), generate

    return extending.intrinsic(product)


def _emit_tile(tile: Tile, builder: Any, a: Memory, b: Memory, c: Memory) -> None:
    vectors = Vectors(builder, tile.width, tile.fused)
    starts = range(0, tile.columns, tile.width)
    pieces = [(g, s, min(tile.width, tile.columns - s)) for g in range(tile.groups) for s in starts]
    rows, across = range(tile.rows), range(len(pieces))

    def left(k: Any, row: int) -> Any:
        return vectors.broadcast(a, vectors.index((row, tile.a[0]), (k, tile.a[1])))

    def right(k: Any, position: int) -> Any:
        group, start, count = pieces[position]
        index = vectors.index((k, tile.b[0]), (group, tile.b[1]), (start, 1))
        return vectors.load(b, index, tile.width if tile.whole[0] else count)

    def products(k: Any, sums: Sequence[Any]) -> list[Any]:
        result = list(sums)

        def add(row: int, position: int, factor: Any, vector: Any) -> None:
            own = row * len(pieces) + position
            result[own] = vectors.multiply_add(factor, vector, result[own])

        # The fewer factors are held in registers, the others come one by one: more would be spilled.
        if tile.rows <= len(pieces):
            factors = [left(k, row) for row in rows]
            for position in across:
                vector = right(k, position)
                for row in rows:
                    add(row, position, factors[row], vector)
        else:
            held = [right(k, position) for position in across]
            for row in rows:
                factor = left(k, row)
                for position in across:
                    add(row, position, factor, held[position])
        return result

    def put(sums: Sequence[Any], accumulate: bool) -> None:
        for number, value in enumerate(sums):
            group, start, count = pieces[number % len(pieces)]
            index = vectors.index((number // len(pieces), tile.c[0]), (group, tile.c[1]), (start, 1))
            lanes = tile.width if tile.whole[1] else count
            vectors.store(c, index, vectors.add(vectors.load(c, index, lanes), value) if accumulate else value, lanes)

    zeros = [vectors.zero()] * (tile.rows * len(pieces))
    sum_in_blocks(vectors, tile.depth, zeros, products, put, tile.accumulate)


def _emit_dots(tile: Tile, builder: Any, a: Memory, b: Memory, c: Memory) -> None:
    vectors = Vectors(builder, tile.width, tile.fused)
    rows = range(tile.rows)
    cells = [(group, column) for group in range(tile.groups) for column in range(tile.columns)]
    together = tile.c[2] == 1 and tile.columns in (2, 4, 8, 16) and tile.columns <= tile.width

    def products(step: Any, sums: Sequence[Any], lanes: int = tile.width) -> list[Any]:
        left = [vectors.load(a, vectors.index((row, tile.a[0]), (step, tile.width)), lanes) for row in rows]
        result = list(sums)
        for position, (group, column) in enumerate(cells):
            index = vectors.index((group, tile.b[1]), (column, tile.b[2]), (step, tile.width))
            right = vectors.load(b, index, lanes)
            for row in rows:
                own = row * len(cells) + position
                result[own] = vectors.multiply_add(left[row], right, result[own])
        return result

    def put(sums: Sequence[Any], accumulate: bool) -> None:
        if together:
            for number in range(tile.rows * tile.groups):
                total = vectors.totals(sums[number * tile.columns : (number + 1) * tile.columns])
                index = vectors.index((number // tile.groups, tile.c[0]), (number % tile.groups, tile.c[1]))
                before = vectors.load_all(c, index, total.type) if accumulate else None
                vectors.store_all(c, index, vectors.add(before, total) if accumulate else total)
            return
        for number, value in enumerate(sums):
            group, column = cells[number % len(cells)]
            index = vectors.index((number // len(cells), tile.c[0]), (group, tile.c[1]), (column, tile.c[2]))
            total = vectors.total(value)
            vectors.store_element(c, index, vectors.add(vectors.load_element(c, index), total) if accumulate else total)

    steps, rest = divmod(tile.depth, tile.width)
    sums = [vectors.zero()] * (tile.rows * len(cells))
    sum_in_blocks(vectors, steps, products(steps, sums, rest) if rest else sums, products, put, tile.accumulate)
