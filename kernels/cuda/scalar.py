"""Scalar functions for generated kernels: on the device (libdevice), on the host (the CPU twin), in the simulator.

For each name of UNARY and BINARY, and T of float32 and float64: name_T(x[, y]) -> T. Also sigmoid_T, remainder_T (the
divisor's sign, as torch), power_int64 (wraps; a negative exponent gives 0 except for 1 and -1), and quotient_uint32 and
_uint64, which divide indices that are known not to be negative, without Python's sign rules. On a device
sigmoid_float32 ends in CUDA's fast division: within 2 units in the last place of the exact quotient, without a branch.
Python's own math functions would not do: in the simulator math.exp returns a float64 and overflows with an exception.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

UNARY = (
    "fabs", "exp", "expm1", "log", "log1p", "log2", "sqrt", "rsqrt", "tanh", "erf", "sin", "cos", "floor", "ceil",
    "rint", "trunc",
)  # fmt: skip
BINARY = ("pow", "fmod", "atan2")


def device_scalars(cuda: Any, libdevice: Any, intrinsic: Callable[..., Any], types: Any) -> dict[str, Any]:
    """Return the functions by name for the CUDA target, from libdevice."""
    names = {}
    for name in (*UNARY, *BINARY):
        names[f"{name}_float32"] = getattr(libdevice, f"{name}f")
        names[f"{name}_float64"] = getattr(libdevice, name)
    # A quotient that is rounded right has a slow path, and what comes behind its branch waits for it.
    names["divide_float32"] = libdevice.fast_fdividef
    # Inlined: a device function of its own could not be compiled without a device.
    composed = {name: cuda.jit(device=True, inline="always")(f) for name, f in _composed_functions(names).items()}
    return names | composed | _quotients(intrinsic, types)


def host_scalars(njit: Callable[..., Any], intrinsic: Callable[..., Any], types: Any) -> dict[str, Any]:
    """Return the functions by name for Numba's CPU target; each computes in its argument's dtype."""
    names = {}
    for name, function in (_host_functions() | {"rsqrt": njit(_inverse_root)}).items():
        names[f"{name}_float32"] = names[f"{name}_float64"] = function
    composed = {name: njit(function) for name, function in _composed_functions(names).items()}
    return names | composed | _quotients(intrinsic, types)


def simulated_scalars() -> dict[str, Callable[..., Any]]:
    """Return the functions by name in NumPy scalars, which keep float32 and never raise."""
    names: dict[str, Callable[..., Any]] = {}
    for name, function in _numpy_functions().items():
        names[f"{name}_float32"] = _quiet(function, np.float32)
        names[f"{name}_float64"] = _quiet(function, np.float64)
    names["quotient_uint32"] = names["quotient_uint64"] = lambda index, divisor: index // divisor
    return names | _composed_functions(names)


def _composed_functions(names: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    quotient = names.pop("divide_float32", None)
    return {
        "sigmoid_float32": _sigmoid(names["exp_float32"], np.float32(1), quotient),
        "sigmoid_float64": _sigmoid(names["exp_float64"], np.float64(1), None),
        "remainder_float32": _remainder(names["fmod_float32"], np.float32(0)),
        "remainder_float64": _remainder(names["fmod_float64"], np.float64(0)),
        "power_int64": _integer_power,
    }


def _inverse_root(x):  # type: ignore[no-untyped-def]
    return np.reciprocal(np.sqrt(x))


def _sigmoid(exp: Callable[..., Any], one: Any, quotient: Callable[..., Any] | None) -> Callable[..., Any]:
    def sigmoid(x):  # type: ignore[no-untyped-def]
        return one / (one + exp(-x))

    def approximate_sigmoid(x):  # type: ignore[no-untyped-def]
        return quotient(one, one + exp(-x))  # type: ignore[misc]

    return sigmoid if quotient is None else approximate_sigmoid


def _remainder(fmod: Callable[..., Any], zero: Any) -> Callable[..., Any]:
    def remainder(dividend, divisor):  # type: ignore[no-untyped-def]
        rest = fmod(dividend, divisor)
        if rest != zero and (divisor < zero) != (rest < zero):
            return rest + divisor
        return rest

    return remainder


def _integer_power(base, exponent):  # type: ignore[no-untyped-def]
    # 1 and -1 are their own inverses; of any other base the truncated inverse is 0.
    if exponent < 0 and base != 1 and base != -1:
        return 0
    result, factor, left = 1, base, abs(exponent)
    while left > 0:
        if left & 1:
            result = result * factor
        factor = factor * factor
        left = left >> 1
    return result


def _host_functions() -> dict[str, Callable[..., Any]]:
    """Return functions that Numba knows how to compile by themselves."""
    from_math = ("fabs", "exp", "expm1", "log", "log1p", "sqrt", "tanh", "erf", "sin", "cos", "pow", "atan2")
    from_numpy = ("log2", "floor", "ceil", "rint", "trunc", "fmod")
    return {name: getattr(math, name) for name in from_math} | {name: getattr(np, name) for name in from_numpy}


def _numpy_functions() -> dict[str, Callable[..., Any]]:
    names: dict[str, Callable[..., Any]] = {name: getattr(np, name, None) for name in (*UNARY, *BINARY)}  # type: ignore[misc]
    return names | {
        "erf": lambda x: math.erf(float(x)),
        "rsqrt": _inverse_root,
        "pow": np.power,
        "atan2": np.arctan2,
    }


def _quiet(function: Callable[..., Any], scalar: Any) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            return scalar(function(*arguments))

    return call


def _quotients(intrinsic: Callable[..., Any], types: Any) -> dict[str, Any]:
    return {f"quotient_uint{bits}": _quotient(intrinsic, types, bits) for bits in (32, 64)}


def _quotient(intrinsic: Callable[..., Any], types: Any, bits: int) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if bits == 64:
            return builder.udiv(*arguments)
        narrow = [builder.trunc(argument, ir.IntType(bits)) for argument in arguments]
        return builder.zext(builder.udiv(*narrow), ir.IntType(64))

    @intrinsic
    def quotient(typing_context, index, divisor):  # type: ignore[no-untyped-def]
        return types.int64(types.int64, types.int64), emit

    return quotient
