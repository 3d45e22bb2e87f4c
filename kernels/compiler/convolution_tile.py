"""A tile of a grouped or dense convolution as a function for generated kernels: some adjacent results of one row.

Self-contained but for gemm_vector.py, vector_loop.py and intrinsics.py: an exported artifact carries them beside its
kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
from llvmlite import ir
from numba import extending

from kernels.compiler.gemm_vector import FLOAT, INT64, Memory, Vectors
from kernels.compiler.vector_loop import repeat

types: Any = numba.types
_TOGETHER = 2
"""Input channels that are taken in one round of the inner loop."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Results of one row [places, channels] of one group.

    taps:     for each place, the first tap of a row of the window that meets the image, and the end of those that do.
    inputs:   channels of the image that are added up, adjacent.
    results:  channels of the result, adjacent: vectors, the last of them with fewer lanes.
    step, dilation: columns of the image from one place to the next, from one tap to the next.
    columns:  elements from one column of the image to the next, and of the result.
    row:      elements from one row of taps in the image to the next.
    weights:  elements of the panel from one input channel, row of taps and tap to the next.
    width, fused: see Vectors.  scopes: of image, panel and result.
    """

    taps: tuple[tuple[int, int], ...]
    inputs: int
    results: int
    step: int
    dilation: int
    columns: tuple[int, int]
    row: int
    weights: tuple[int, int, int]
    width: int
    fused: bool
    scopes: tuple[int, int, int]


def convolution_tile(taps: Sequence[tuple[int, int]], inputs: int, results: int, **options: Any) -> Any:
    """Return tile(address of image, of panel, of result, rows of taps, whether they are the first) for compiled code.

    The first ones replace what the result holds, the others are added to it. The arguments are Tile's.
    """
    tile = Tile(tuple(taps), inputs, results, **options)

    def convolve(typing_context: Any, image: Any, panel: Any, out: Any, rows: Any, first: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointers = [builder.inttoptr(address, FLOAT.as_pointer()) for address in arguments[:3]]
            _Emitter(tile, builder, *map(Memory, pointers, tile.scopes)).emit(arguments[3], arguments[4])
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64, types.int64, types.int64), generate

    return extending.intrinsic(convolve)


class _Emitter:
    def __init__(self, tile: Tile, builder: Any, image: Memory, panel: Memory, out: Memory) -> None:
        self.tile, self.builder = tile, builder
        self.image, self.panel, self.out = image, panel, out
        self.vectors = Vectors(builder, tile.width, tile.fused)
        self.across = -(-tile.results // tile.width)

    def emit(self, rows: Any, first: Any) -> None:
        """Emit the sum over rows of taps, taps and input channels, and what puts it into memory."""
        zeros = [self.vectors.zero()] * (len(self.tile.taps) * self.across)
        sums = repeat(self.builder, rows, zeros, self._row)
        fresh = self.builder.icmp_signed("!=", first, ir.Constant(INT64, 0))
        with self.builder.if_else(fresh) as (replace, add):
            with replace:
                self._put(sums, accumulate=False)
            with add:
                self._put(sums, accumulate=True)

    def _put(self, sums: Sequence[Any], accumulate: bool) -> None:
        tile, vectors = self.tile, self.vectors
        for number, value in enumerate(sums):
            place, vector = divmod(number, self.across)
            index = vectors.index((place, tile.columns[1]), (vector, tile.width))
            lanes = min(tile.width, tile.results - vector * tile.width)
            total = vectors.add(vectors.load(self.out, index, lanes), value) if accumulate else value
            vectors.store(self.out, index, total, lanes)

    def _row(self, row: Any, sums: Sequence[Any]) -> Sequence[Any]:
        ends = max(end for _, end in self.tile.taps)
        for tap in range(ends):
            places = [k for k, (first, end) in enumerate(self.tile.taps) if first <= tap < end]
            if places:
                sums = self._tap(row, tap, places, sums)
        return sums

    def _tap(self, row: Any, tap: int, places: Sequence[int], sums: Sequence[Any]) -> Sequence[Any]:
        """Emit the sum over the input channels at one tap, for the places where it meets the image."""
        whole, rest = divmod(self.tile.inputs, _TOGETHER)

        def body(number: Any, carried: Sequence[Any]) -> Sequence[Any]:
            for k in range(_TOGETHER):
                carried = self._products(row, tap, places, ((number, _TOGETHER), (k, 1)), carried)
            return carried

        if whole > 1:
            sums = repeat(self.builder, ir.Constant(INT64, whole), sums, body)
        elif whole:
            sums = body(0, sums)
        for k in range(rest):
            sums = self._products(row, tap, places, ((whole * _TOGETHER + k, 1),), sums)
        return sums

    def _products(
        self, row: Any, tap: int, places: Sequence[int], channel: tuple[tuple[Any, int], ...], sums: Sequence[Any]
    ) -> list[Any]:
        tile, vectors, result = self.tile, self.vectors, list(sums)
        by_input, by_row, by_tap = tile.weights
        inputs = [(value, factor * by_input) for value, factor in channel]
        wide = [
            vectors.load(self.panel, vectors.index(*inputs, (row, by_row), (tap, by_tap), (k, tile.width)), tile.width)
            for k in range(self.across)
        ]
        for place in places:
            column = (place * tile.step + tap * tile.dilation) * tile.columns[0]
            pixel = vectors.broadcast(self.image, vectors.index(*channel, (row, tile.row), (column, 1)))
            for k in range(self.across):
                own = place * self.across + k
                result[own] = vectors.multiply_add(pixel, wide[k], result[own])
        return result
