"""Register tiles of quantized products as functions for compiled code: sums along the depth, left in memory as sums.

The tile of a product is `rows` rows of activations by 64 columns; its sums stay in registers. Numbers of steps and
strides are arguments, so that one compiled tile serves every shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
from llvmlite import ir
from numba import extending

from kernels.quantized.cpu_vector import BYTES, FLOATS, INT32, INT64, INTEGERS, TABLE, Instructions

types: Any = numba.types
COLUMNS = 64
"""Of a panel: four vectors of sums."""
LARGEST_ROWS = 6
"""With 4 vectors each, 24 sums in registers; 4 weights and a factor stand beside them."""
UNROLLED = 4
STEP_COLUMNS = 4
"""Bytes that one instruction sums: the depth of a step."""
DEPTH_MULTIPLE = UNROLLED * STEP_COLUMNS
_VECTORS = COLUMNS // 16
STREAM_AHEAD = 4096
"""Bytes that a lone tile asks for before it needs them: the processor's own prefetching ends with each page."""


def int8_tile(rows: int, native: bool = True) -> Any:
    """Return a function tile(activations, their row stride, panel, depth, sums, ahead) for compiled code.

    activations: uint8 [rows, depth], the stride in bytes. panel: int8 [depth / 4, 64, 4]. depth: a multiple of 16.
    sums: int32 [rows, 64], written. ahead: memory that is soon needed; a line of it is asked for at every step.
    """
    return _tile(rows, native, ir.Constant(INTEGERS, [0] * 16), Instructions.dot)


def bfloat16_tile(rows: int, native: bool = True) -> Any:
    """Return the same as int8_tile for bfloat16: panel [depth / 4, 64, 2], float32 sums; depth counts bytes still."""
    return _tile(rows, native, ir.Constant(FLOATS, [0.0] * 16), Instructions.dot_bfloats)


def weight_only_tile(rows: int, native: bool = True) -> Any:
    """Return the same as int8_tile for float32 activations: panel int8 [depth / 4, 64], float32 sums."""

    def load(make: Instructions, panel: Any, place: Any) -> Any:
        wide = make.builder.sext(make.load(panel, place, TABLE), INTEGERS)
        return make.builder.sitofp(wide, FLOATS)

    def multiply(make: Instructions, total: Any, factor: Any, weight: Any) -> Any:
        return make.multiply_add(make.builder.bitcast(factor, FLOATS), weight, total)

    return _tile(rows, native, ir.Constant(FLOATS, [0.0] * 16), multiply, COLUMNS, load)


def _load_bytes(make: Instructions, panel: Any, place: Any) -> Any:
    return make.load(panel, place, BYTES)


def _tile(
    rows: int,
    native: bool,
    zero: Any,
    dot: Callable[[Instructions, Any, Any, Any], Any],
    row_bytes: int = COLUMNS * STEP_COLUMNS,
    load: Callable[[Instructions, Any, Any], Any] = _load_bytes,
) -> Any:
    """Return a tile: `load` takes a vector of weights from a panel's rows of so many bytes, `dot` adds products."""

    def emit(make: Instructions, arguments: Sequence[Any]) -> None:
        activations, stride, panel, depth, sums, ahead = arguments
        starts = _row_starts(make, rows, stride)

        def body(step: Any, totals: Sequence[Any]) -> list[Any]:
            result = list(totals)
            left, right = make.product(step, DEPTH_MULTIPLE), make.product(step, UNROLLED * row_bytes)
            for part in range(UNROLLED):
                places = [
                    make.sum(right, part * row_bytes + row_bytes // _VECTORS * vector) for vector in range(_VECTORS)
                ]
                weights = [load(make, panel, place) for place in places]
                _prefetch(make, rows, step, part, panel, places[:: 256 // row_bytes], ahead)
                for row in range(rows):
                    place = make.sum(starts[row], left, part * STEP_COLUMNS)
                    factor = make.bytes_of(make.broadcast(activations, place, INT32))
                    for vector in range(_VECTORS):
                        own = row * _VECTORS + vector
                        result[own] = dot(make, result[own], factor, weights[vector])
            return result

        steps = make.builder.lshr(depth, ir.Constant(INT64, 4))
        for number, total in enumerate(make.loop(steps, body, [zero] * (rows * _VECTORS))):
            make.store(total, sums, 64 * number)

    return function_of(emit, native)


def _row_starts(make: Instructions, rows: int, stride: Any) -> list[Any]:
    """Return where each row starts, in bytes."""
    return [make.product(stride, row) if row else 0 for row in range(rows)]


def _prefetch(
    make: Instructions, rows: int, step: Any, part: int, panel: Any, places: Sequence[Any], ahead: Any
) -> None:
    """Ask for what comes next: of a stream that is read once all of it, else the next panel bit by bit."""
    if rows <= 2:
        for place in places:
            make.prefetch(panel, make.sum(place, STREAM_AHEAD))
    else:
        make.prefetch(ahead, make.sum(make.product(step, 64 * UNROLLED), 64 * part))


def function_of(emit: Callable[[Instructions, Sequence[Any]], None], native: bool = True) -> Any:
    """Return a function of six int64 addresses and numbers for compiled code."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit(Instructions(builder, native), values)
        return context.get_dummy_value()

    def six(typing_context: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
        return types.void(*[types.int64] * 6), generate

    return extending.intrinsic(six)
