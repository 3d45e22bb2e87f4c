"""Values as bit patterns, for packed data: on the device, on the host (the CPU twin), in the simulator.

    bits_to_float32(uint32) -> float32          float32_to_bits(float32) -> uint32
    float16_to_float32(uint16) -> float32       float32_to_float16(float32) -> uint16, rounded half to even
    bfloat16_to_float32(uint16) -> float32      float32_to_bfloat16(float32) -> uint16, rounded half to even
Half precision is storage here: its 16 bits come as uint16, arithmetic is in float32. NaN stays NaN, its bits may not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir


def device_bits(cuda: Any, intrinsic: Callable[..., Any], types: Any) -> dict[str, Any]:
    """Return the functions by name for the CUDA target."""
    casts = _bit_casts(intrinsic, types)
    composed = _composed_functions(casts, types)
    names = {name: cuda.jit(device=True, inline="always")(function) for name, function in composed.items()}
    return casts | names | _half_conversions(intrinsic, types)


def host_bits(njit: Callable[..., Any], intrinsic: Callable[..., Any], types: Any) -> dict[str, Any]:
    """Return the functions by name for Numba's CPU target."""
    casts = _bit_casts(intrinsic, types)
    composed = _composed_functions(casts, types) | _host_half_functions(casts, types)
    return casts | {name: njit(function) for name, function in composed.items()}


def simulated_bits() -> dict[str, Callable[..., Any]]:
    """Return the functions by name on NumPy scalars."""
    casts: dict[str, Any] = {"bits_to_float32": _float_of, "float32_to_bits": _bits_of}
    halves = {"float16_to_float32": _float_of_half, "float32_to_float16": _half_of}
    return casts | _composed_functions(casts, np) | halves


def _float_of(bits: Any) -> Any:
    return np.array(bits).astype(np.uint32).view(np.float32)[()]


def _bits_of(value: Any) -> Any:
    return np.asarray(value, np.float32).view(np.uint32)[()]


def _float_of_half(bits: Any) -> Any:
    return np.float32(np.array(bits).astype(np.uint16).view(np.float16)[()])


def _half_of(value: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.asarray(np.float16(value)).view(np.uint16)[()]


def _bit_casts(intrinsic: Callable[..., Any], types: Any) -> dict[str, Any]:
    def to(kind: Any) -> Callable[..., Any]:
        return lambda context, builder, signature, arguments: builder.bitcast(arguments[0], kind)

    @intrinsic
    def bits_to_float32(typing_context, bits):  # type: ignore[no-untyped-def]
        return types.float32(types.uint32), to(ir.FloatType())

    @intrinsic
    def float32_to_bits(typing_context, value):  # type: ignore[no-untyped-def]
        return types.uint32(types.float32), to(ir.IntType(32))

    return {"bits_to_float32": bits_to_float32, "float32_to_bits": float32_to_bits}


def _half_conversions(intrinsic: Callable[..., Any], types: Any) -> dict[str, Any]:
    def widen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    def narrow(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.fptrunc(arguments[0], ir.HalfType()), ir.IntType(16))

    @intrinsic
    def float16_to_float32(typing_context, bits):  # type: ignore[no-untyped-def]
        return types.float32(types.uint16), widen

    @intrinsic
    def float32_to_float16(typing_context, value):  # type: ignore[no-untyped-def]
        return types.uint16(types.float32), narrow

    return {"float16_to_float32": float16_to_float32, "float32_to_float16": float32_to_float16}


def _composed_functions(casts: dict[str, Any], types: Any) -> dict[str, Callable[..., Any]]:
    """Return the bfloat16 conversions: such a number is the upper half of a float32."""
    bits_to_float32, float32_to_bits = casts["bits_to_float32"], casts["float32_to_bits"]
    uint16, uint32, int64 = types.uint16, types.uint32, types.int64

    def bfloat16_to_float32(bits):  # type: ignore[no-untyped-def]
        return bits_to_float32(uint32(int64(bits) << 16))

    def float32_to_bfloat16(value):  # type: ignore[no-untyped-def]
        bits = int64(float32_to_bits(value))
        if value != value:
            return uint16((bits >> 16) | 0x40)  # quiet: an infinity must not be left of it
        return uint16((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)

    return {"bfloat16_to_float32": bfloat16_to_float32, "float32_to_bfloat16": float32_to_bfloat16}


def _host_half_functions(casts: dict[str, Any], types: Any) -> dict[str, Callable[..., Any]]:
    """Return the float16 conversions by integer arithmetic: not every host has instructions for them."""
    bits_to_float32, float32_to_bits = casts["bits_to_float32"], casts["float32_to_bits"]
    uint16, uint32, int64 = types.uint16, types.uint32, types.int64
    exponent_gap = np.float32(2.0**112)  # between the exponents' biases, 127 and 15
    smallest_normal, half = np.float32(2.0**-14), np.float32(0.5)

    def float16_to_float32(bits):  # type: ignore[no-untyped-def]
        sign, rest = (int64(bits) & 0x8000) << 16, int64(bits) & 0x7FFF
        if rest >= 0x7C00:
            return bits_to_float32(uint32(sign | 0x7F800000 | (rest << 13)))
        magnitude = bits_to_float32(uint32(rest << 13)) * exponent_gap
        return -magnitude if sign else magnitude

    def float32_to_float16(value):  # type: ignore[no-untyped-def]
        bits = int64(float32_to_bits(value))
        sign, rest = (bits >> 16) & 0x8000, bits & 0x7FFFFFFF
        if value != value:
            return uint16(sign | 0x7E00)
        if rest >= 0x477FF000:  # from 65520 on
            return uint16(sign | 0x7C00)
        magnitude = bits_to_float32(uint32(rest))
        if magnitude < smallest_normal:
            # Adding one half lines the subnormal's bits up at the float32's end, rounded by the addition.
            return uint16(sign | (int64(float32_to_bits(magnitude + half)) - 0x3F000000))
        return uint16(sign | ((rest - (112 << 23) + 0xFFF + ((rest >> 13) & 1)) >> 13))

    return {"float16_to_float32": float16_to_float32, "float32_to_float16": float32_to_float16}
