"""Some adjacent results of a depthwise convolution as a function for generated kernels: a vector of channels each.

Self-contained but for gemm_vector.py, vector_loop.py and intrinsics.py: an exported artifact carries them beside
its kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
from numba import extending

from kernels.compiler.gemm_vector import FLOAT, Memory, Vectors
from kernels.compiler.vector_loop import repeat

types: Any = numba.types


@dataclass(frozen=True, slots=True)
class Strip:
    """Results that lie side by side in one row.

    taps:    for each result, the first tap of a row of the window that meets the image, and the end of those that do.
    step:    columns of the image from one result to the next; dilation: from one tap to the next.
    columns: elements from one column of the image to the next, and of the results.
    row:     elements from one row of taps in the image to the next.
    window:  taps in a row of the window: a row of weights is so many vectors.
    lanes:   channels that there are; width, fused: see Vectors.  scopes: of image, weights and results.
    """

    taps: tuple[tuple[int, int], ...]
    step: int
    dilation: int
    columns: tuple[int, int]
    row: int
    window: int
    lanes: int
    width: int
    fused: bool
    scopes: tuple[int, int, int]


def depthwise_strip(taps: Sequence[tuple[int, int]], step: int, dilation: int, **options: Any) -> Any:
    """Return a function strip(address of image, of weights, of results, rows of taps) for compiled code.

    The arguments are Strip's.
    """
    strip = Strip(tuple(taps), step, dilation, **options)

    def convolve(typing_context: Any, image: Any, weights: Any, out: Any, rows: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointers = [builder.inttoptr(address, FLOAT.as_pointer()) for address in arguments[:3]]
            _emit(strip, builder, arguments[3], *map(Memory, pointers, strip.scopes))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64, types.int64), generate

    return extending.intrinsic(convolve)


def _emit(strip: Strip, builder: Any, rows: Any, image: Memory, weights: Memory, out: Memory) -> None:
    vectors = Vectors(builder, strip.width, strip.fused)

    def add_row(row: Any, sums: Sequence[Any]) -> list[Any]:
        result = list(sums)
        columns: dict[int, Any] = {}
        for tap in range(strip.window):
            meets = [k for k, (first, end) in enumerate(strip.taps) if first <= tap < end]
            if not meets:
                continue
            weight = vectors.load(weights, vectors.index((row, strip.window * strip.width), (tap, strip.width)), 1 << 9)
            for k in meets:
                column = k * strip.step + tap * strip.dilation
                if column not in columns:
                    index = vectors.index((row, strip.row), (column, strip.columns[0]))
                    columns[column] = vectors.load(image, index, strip.lanes)
                result[k] = vectors.multiply_add(columns[column], weight, result[k])
        return result

    sums = repeat(builder, rows, [vectors.zero()] * len(strip.taps), add_row)
    for k, value in enumerate(sums):
        vectors.store(out, vectors.index((k, strip.columns[1])), value, strip.lanes)
