"""Convolutions with 8-bit weights as products of channels and pixels, as compiled functions: nothing is unfolded.

Weights are the panels of cpu_weights: a row of 64 channels for each 4 bytes of the depth. Pixels take the place that
columns have in a product: 64 neighbouring ones are gathered into a panel [depth / 4, 64, 4] of bytes, each pixel's
patch quantised by its own range, exactly as cpu_quantise does it with rows. So results are written channel by channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from kernels.quantized.cpu_quantise import ROUND, SMALLEST_SCALE, STEPS
from kernels.quantized.cpu_tile import COLUMNS, DEPTH_MULTIPLE, STEP_COLUMNS, UNROLLED, function_of
from kernels.quantized.cpu_vector import BYTES, FLOATS, INT32, INT64, INTEGERS, LANES, Instructions

PIXELS = COLUMNS
"""Of a block: four vectors of sums."""
NUMBERS_BYTES = 4 * 4 * PIXELS
"""Of a block's scales, zeros, inverse scales and shifts."""
_VECTORS = PIXELS // LANES
_SCALE, _ZERO, _INVERSE, _SHIFT = (4 * PIXELS * k for k in range(4))


def range_pixels() -> Any:
    """Return a function widen(x, vectors, last, ranges, stride, _) for compiled code.

    ranges: of pixels, widened by the values x of one channel: the smallest ones (0 at most), the largest ones (0 at
    least), and zeros that become NaN where a value is not finite; each `stride` bytes behind the ones before it.
    last: bytes that the last of the vectors begins behind x; it may overlap the one before it.
    """

    def emit(make: Instructions, arguments: Sequence[Any]) -> None:
        x, vectors, last, ranges, stride, _ = arguments

        def body(step: Any, carried: Sequence[Any]) -> list[Any]:
            place = _smaller(make, make.product(step, 64), last)
            values = make.load(x, place, FLOATS)
            for number, value in enumerate(_widened(make, values, _ranges_at(make, ranges, place, stride))):
                make.store(value, ranges, make.sum(place, make.product(stride, number)))
            return []

        make.loop(vectors, body, [])

    return function_of(emit)


def patch_numbers() -> Any:
    """Return a function numbers(ranges, taps, how many, stride, numbers, _) for compiled code.

    It writes the numbers of 64 neighbouring pixels from the ranges of the pixels of their patches. taps: int64
    elements from a pixel to each pixel of its patch. ranges, stride: of range_pixels.
    """

    def emit(make: Instructions, arguments: Sequence[Any]) -> None:
        ranges, taps, count, stride, numbers, _ = arguments
        builder = make.builder
        zeros = _floats(0.0)
        for vector in range(_VECTORS):

            def look(step: Any, carried: Sequence[Any], vector: int = vector) -> list[Any]:
                tap = make.load(taps, make.product(step, 8), INT64)
                place = make.sum(make.product(tap, 4), 64 * vector)
                low, high, bad = _ranges_at(make, ranges, place, stride)
                return [
                    builder.select(builder.fcmp_ordered("<", low, carried[0]), low, carried[0]),
                    builder.select(builder.fcmp_ordered(">", high, carried[1]), high, carried[1]),
                    builder.fadd(bad, carried[2]),
                ]

            low, high, bad = make.loop(count, look, [zeros] * 3)
            share, smallest = _floats(1.0 / STEPS), _floats(SMALLEST_SCALE)
            scale = builder.fsub(builder.fmul(high, share), builder.fmul(low, share))
            scale = builder.select(builder.fcmp_ordered(">", scale, smallest), scale, smallest)
            inverse = builder.fdiv(_floats(1.0), scale)
            # both roundings from the exact product, as in cpu_quantise
            shift = make.multiply_add(builder.fneg(low), inverse, _floats(ROUND))
            zero = builder.fptosi(builder.fsub(shift, _floats(ROUND)), INTEGERS)
            make.store(builder.fadd(scale, bad), numbers, _SCALE + 64 * vector)
            make.store(zero, numbers, _ZERO + 64 * vector)
            make.store(inverse, numbers, _INVERSE + 64 * vector)
            make.store(shift, numbers, _SHIFT + 64 * vector)

    return function_of(emit)


def gather_patches() -> Any:
    """Return a function gather(image, offsets, depth, numbers, panel, padded) for compiled code.

    It writes the patches of 64 neighbouring pixels as bytes [padded / 4, 64, 4]. image: float32, the first pixel.
    offsets: int64 [padded], elements from a pixel to each value of its patch; behind `depth` zeros are taken instead,
    for what weights are there counts in their sums. numbers: of patch_numbers.
    """

    def emit(make: Instructions, arguments: Sequence[Any]) -> None:
        image, offsets, depth, numbers, panel, padded = arguments
        builder = make.builder
        inverses, shifts = (
            [make.load(numbers, first + 64 * vector, FLOATS) for vector in range(_VECTORS)]
            for first in (_INVERSE, _SHIFT)
        )
        whole = builder.lshr(depth, ir.Constant(INT64, 2))

        def body(step: Any, checked: bool) -> list[Any]:
            first = make.product(step, STEP_COLUMNS)
            numbered = [make.sum(first, part) for part in range(STEP_COLUMNS)]
            places = [make.product(make.load(offsets, make.product(k, 8), INT64), 4) for k in numbered]
            for vector in range(_VECTORS):
                found = []
                for k, place in zip(numbered, places, strict=True):
                    values = make.load(image, make.sum(place, 64 * vector), FLOATS)
                    if checked:
                        values = builder.select(builder.icmp_signed("<", k, depth), values, _floats(0.0))
                    rounded = make.multiply_add(values, inverses[vector], shifts[vector])
                    found.append(builder.bitcast(rounded, INTEGERS))
                make.store(_bytes_joined(make, found), panel, make.sum(make.product(step, 4 * PIXELS), 64 * vector))
            return []

        make.loop(whole, lambda step, carried: body(step, False), [])
        rest = builder.sub(builder.lshr(padded, ir.Constant(INT64, 2)), whole)
        make.loop(rest, lambda step, carried: body(make.sum(whole, step), True), [])

    return function_of(emit)


def channel_tile(rows: int, native: bool = True) -> Any:
    """Return a function tile(weights, panel, depth, sums, _, _) for compiled code.

    weights: the first of `rows` neighbouring channels in a panel int8 [depth / 4, 64, 4]. panel: of gather_patches.
    depth: a multiple of 16. sums: int32 [rows, 64], written.
    """

    def emit(make: Instructions, arguments: Sequence[Any]) -> None:
        weights, panel, depth, sums, _, _ = arguments

        def body(step: Any, totals: Sequence[Any]) -> list[Any]:
            result = list(totals)
            for part in range(UNROLLED):
                first = make.sum(make.product(step, UNROLLED * 4 * PIXELS), part * 4 * PIXELS)
                pixels = [make.load(panel, make.sum(first, 64 * vector), BYTES) for vector in range(_VECTORS)]
                for row in range(rows):
                    factor = make.bytes_of(make.broadcast(weights, make.sum(first, 4 * row), INT32))
                    for vector, pixel in enumerate(pixels):
                        own = row * _VECTORS + vector
                        result[own] = make.dot(result[own], pixel, factor)
            return result

        zero = ir.Constant(INTEGERS, [0] * LANES)
        steps = make.builder.udiv(depth, ir.Constant(INT64, DEPTH_MULTIPLE))
        for number, total in enumerate(make.loop(steps, body, [zero] * (rows * _VECTORS))):
            make.store(total, sums, 64 * number)

    return function_of(emit, native)


def _bytes_joined(make: Instructions, integers: Sequence[Any]) -> Any:
    """Return the low bytes of four vectors of integers as one vector, those of the first lowest."""
    builder = make.builder
    joined = builder.and_(integers[0], ir.Constant(INTEGERS, [255] * LANES))
    for part, integer in enumerate(integers[1:-1], 1):
        byte = builder.and_(integer, ir.Constant(INTEGERS, [255] * LANES))
        joined = builder.or_(joined, builder.shl(byte, ir.Constant(INTEGERS, [8 * part] * LANES)))
    last = builder.shl(integers[-1], ir.Constant(INTEGERS, [24] * LANES))
    return builder.or_(joined, last)


def _ranges_at(make: Instructions, ranges: Any, place: Any, stride: Any) -> list[Any]:
    """Return 16 pixels' smallest values, largest ones, and what is NaN where one is not finite."""
    return [make.load(ranges, make.sum(place, make.product(stride, number)), FLOATS) for number in range(3)]


def _widened(make: Instructions, values: Any, ranges: Sequence[Any]) -> list[Any]:
    low, high, bad = ranges
    builder = make.builder
    return [
        builder.select(builder.fcmp_ordered("<", values, low), values, low),
        builder.select(builder.fcmp_ordered(">", values, high), values, high),
        make.multiply_add(values, _floats(0.0), bad),
    ]


def _smaller(make: Instructions, left: Any, right: Any) -> Any:
    return make.builder.select(make.builder.icmp_signed("<", left, right), left, right)


def _floats(value: float) -> Any:
    return ir.Constant(FLOATS, [value] * LANES)
