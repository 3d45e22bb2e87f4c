"""Rows of activations -> unsigned bytes with a scale and a zero point a row, as a function for compiled code.

x = scale * (q - zero), q from 0 to 255. The range always holds 0, so that zero is a byte too and zeros stay exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from kernels.quantized.cpu_tile import function_of
from kernels.quantized.cpu_vector import FLOATS, INT32, INT64, INTEGERS, TABLE, Instructions

STEPS = 254.0
"""Of the range: one less than bytes have, so that rounding the zero point never leaves the byte."""
SMALLEST_SCALE = 1e-30
ROUND = 12582912.0
"""1.5 * 2^23: adding it leaves the nearest integer in the low bits."""


def quantise_row() -> Any:
    """Return a function quantise(x, columns, bytes, scale, zero) for compiled code.

    x: float32 [columns]. bytes: uint8 [columns up to a multiple of 16], written. scale: float32, NaN where x holds NaN
    or an infinity. zero: int32.
    """

    def emit(make: Instructions, arguments: Sequence[Any]) -> None:
        x, columns, result, scale_address, zero_address, _ = arguments
        builder = make.builder
        whole, rest = builder.lshr(columns, _integer(4)), builder.and_(columns, _integer(15))
        zeros = _constant(0.0)

        def extend(vector: Any, carried: Sequence[Any]) -> list[Any]:
            low, high, bad = carried
            return [
                builder.select(builder.fcmp_ordered("<", vector, low), vector, low),
                builder.select(builder.fcmp_ordered(">", vector, high), vector, high),
                make.multiply_add(vector, zeros, bad),
            ]

        def look(step: Any, carried: Sequence[Any]) -> list[Any]:
            return extend(make.load(x, make.product(step, 64), FLOATS), carried)

        carried = make.loop(whole, look, [zeros] * 3)
        tail = make.load_floats(x, make.product(whole, 64), rest)
        low, high, bad = extend(tail, carried)
        low = make.reduced(low, lambda a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b))
        high = make.reduced(high, lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))
        bad = make.reduced(bad, builder.fadd)
        share, smallest = _constant(1.0 / STEPS), _constant(SMALLEST_SCALE)
        scale = builder.fsub(builder.fmul(high, share), builder.fmul(low, share))
        scale = builder.select(builder.fcmp_ordered(">", scale, smallest), scale, smallest)
        inverse = builder.fdiv(_constant(1.0), scale)
        # both roundings from the exact product: rounded apart, the lowest value could become -1
        shifted = make.multiply_add(builder.fneg(low), inverse, _constant(ROUND))

        def put(vector: Any, offset: Any) -> None:
            rounded = make.multiply_add(vector, inverse, shifted)
            make.store(builder.trunc(builder.bitcast(rounded, INTEGERS), TABLE), result, offset)

        def write(step: Any, carried: Sequence[Any]) -> list[Any]:
            put(make.load(x, make.product(step, 64), FLOATS), make.product(step, 16))
            return []

        make.loop(whole, write, [])
        first = ir.Constant(INT32, 0)
        has_tail = builder.icmp_unsigned("!=", rest, _integer(0))
        with builder.if_then(has_tail):
            put(tail, make.product(whole, 16))
        make.store(builder.extract_element(builder.fadd(scale, bad), first), scale_address, 0)
        zero = builder.fptosi(builder.fsub(shifted, _constant(ROUND)), INTEGERS)
        make.store(builder.extract_element(zero, first), zero_address, 0)

    return function_of(emit)


def bfloat16_row() -> Any:
    """Return a function round(x, columns, halves, _, _, _) for compiled code: float32 to bfloat16, to the nearest even.

    halves: bfloat16 [columns up to a multiple of 16], written.
    """
    return _converted_row(Instructions.to_bfloats, 32)


def float32_row() -> Any:
    """Return a function copy(x, columns, floats, _, _, _) for compiled code.

    floats: float32 [columns up to a multiple of 16], written; zeros behind the columns.
    """
    return _converted_row(lambda make, values: values, 64)


def _converted_row(convert: Callable[[Instructions, Any], Any], size: int) -> Any:
    """Return a function that writes a row converted, `size` bytes for each 16 values, zeros behind the last one."""

    def emit(make: Instructions, arguments: Sequence[Any]) -> None:
        x, columns, result = arguments[:3]
        builder = make.builder
        whole, rest = builder.lshr(columns, _integer(4)), builder.and_(columns, _integer(15))

        def write(step: Any, carried: Sequence[Any]) -> list[Any]:
            values = make.load(x, make.product(step, 64), FLOATS)
            make.store(convert(make, values), result, make.product(step, size))
            return []

        make.loop(whole, write, [])
        with builder.if_then(builder.icmp_unsigned("!=", rest, _integer(0))):
            tail = make.load_floats(x, make.product(whole, 64), rest)
            make.store(convert(make, tail), result, make.product(whole, size))

    return function_of(emit)


def _constant(value: float) -> Any:
    return ir.Constant(FLOATS, [value] * 16)


def _integer(value: int) -> Any:
    return ir.Constant(INT64, value)
