"""Scalar functions that generated kernels call.

Self-contained but for intrinsics.py: an exported artifact carries both beside its kernels.

Every float32 function is free of branches, so that LLVM vectorises the loop around it. Polynomials were fitted for
this file (weighted least squares, reweighted towards the minimax error). Only `contract` of the fast-math flags is
set: NaN, infinities, denormals, signed zeros and IEEE division stay as they are.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from kernels.compiler.intrinsics import (
    HAS_SCALE,
    absolute,
    add_int32,
    and_int32,
    bits_of,
    copy_sign,
    from_bits,
    load_exponent,
    select,
    shift_left_int32,
    shift_right_int32,
    subtract_int32,
    truncated_remainder,
)

float32, float64, int32, int64 = np.float32, np.float64, np.int32, np.int64
INFINITY = float("inf")
NOT_A_NUMBER = float("nan")

inline: Any = numba.njit(forceinline=True, fastmath={"contract"}, error_model="numpy", boundscheck=False)

# exp and its family, float32. x = n ln 2 + r, exp(r) = 1 + r + r^2 Q(r).

_LOG2_E = float32(1.4426950408889634)
_LN2_HIGH = float32(0.693359375)  # 9 bits: n times it is exact
_LN2_LOW = float32(-2.12194440e-4)
_ROUND = float32(12582912.0)  # 1.5 * 2^23: adding it leaves the nearest integer in the low bits
_Q0, _Q1, _Q2 = float32(0.49999993447580665), float32(0.1666652062868283), float32(0.04166838808353208)
_Q3, _Q4 = float32(0.008368717244578333), float32(0.001381459773046962)
_ZERO, _HALF, _ONE, _TWO = float32(0.0), float32(0.5), float32(1.0), float32(2.0)


@inline
def _exp_remainder(r: Any) -> Any:
    q = (((_Q4 * r + _Q3) * r + _Q2) * r + _Q1) * r + _Q0
    return q * (r * r) + r


@inline
def _power_of_two(n: Any) -> Any:
    return from_bits(shift_left_int32(add_int32(n, int32(127)), int32(23)))


@inline
def _scale_in_two_steps(x: Any, power: Any) -> Any:
    # 2^power in two factors: it reaches beyond the exponents of normal numbers at both ends
    half = shift_right_int32(power, int32(1))
    return x * _power_of_two(half) * _power_of_two(subtract_int32(power, half))


_scale = load_exponent if HAS_SCALE else _scale_in_two_steps


@inline
def exp_float32(x: Any) -> Any:
    """Return e**x: inf from 88.73 on, denormals down to -103.97, then 0; NaN stays."""
    # one comparison for both ends: of the vector units it is the busy ones that compare
    size = absolute(x)
    return _exp_within(copy_sign(select(size > float32(105.0), float32(105.0), size), x))


@inline
def exp_nonpositive_float32(x: Any) -> Any:
    """Return e**x of an x that is at most 0, or NaN."""
    return _exp_within(select(x < float32(-105.0), float32(-105.0), x))


@inline
def _exp_within(x: Any) -> Any:
    """Return e**x of an x that is no further from 0 than 105."""
    shifted = x * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    return _scale(_exp_remainder(r) + _ONE, subtract_int32(bits_of(shifted), int32(0x4B400000)))


@inline
def expm1_float32(x: Any) -> Any:
    """Return e**x - 1, exact to rounding near 0 as well; keeps -0.0."""
    bounded = select(x > float32(89.0), float32(89.0), x)
    bounded = select(bounded < float32(-30.0), float32(-30.0), bounded)
    shifted = bounded * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (bounded - n * _LN2_HIGH) - n * _LN2_LOW
    # half of 2^n: 2^128 is no float32
    scale = _power_of_two(subtract_int32(bits_of(shifted), int32(0x4B400001)))
    result = (scale * _exp_remainder(r) + (scale - _HALF)) * _TWO
    result = select(x > float32(88.72283), float32(INFINITY), result)
    return select(absolute(x) < float32(1e-8), x, result)


@inline
def sigmoid_float32(x: Any) -> Any:
    """Return 1 / (1 + e**-x)."""
    return _ONE / (_ONE + exp_float32(-x))


# tanh(x) = x P(x^2) / Q(x^2) up to 9, from where on it rounds to 1: there the quotient grows beyond 1, and is cut off.
# The coefficients were moved, a few units of their last places, to where the float32 result is nearest.

_T0, _T1, _T2 = float32(0.6761423945426941), float32(0.09047480672597885), float32(0.002363516017794609)
_T3, _T4 = float32(1.3934683011029847e-05), float32(9.02970320737495e-09)
_U0, _U1, _U2 = float32(0.6761424541473389), float32(0.3158555030822754), float32(0.01749652437865734)
_U3, _U4 = float32(0.00022215589706320316), float32(5.258068540570093e-07)


@inline
def tanh_float32(x: Any) -> Any:
    """Return tanh(x); NaN and -0.0 stay."""
    size = absolute(x)
    size = select(size > float32(10.0), float32(10.0), size)
    z = size * size
    p = (((_T4 * z + _T3) * z + _T2) * z + _T1) * z + _T0
    q = (((_U4 * z + _U3) * z + _U2) * z + _U1) * z + _U0
    # the quotient first: a denormal is then rounded once
    ratio = size * (p / q)
    return copy_sign(select(ratio > _ONE, _ONE, ratio), x)


# erf(x) = x P(x^2) / Q(x^2) up to 3.92, from where on it rounds to 1, as that of tanh.

_E0, _E1, _E2 = float32(1.3484020233154297), float32(0.2277587503194809), float32(0.06305893510580063)
_E3, _E4, _E5 = float32(0.0045082056894898415), float32(0.0003403864975553006), float32(2.444976644255803e-06)
_F0, _F1, _F2 = float32(1.1949901580810547), float32(0.6001753807067871), float32(0.13644765317440033)
_F3, _F4, _F5 = float32(0.017904864624142647), float32(0.00139081000816077), float32(4.5466764277080074e-05)


@inline
def erf_float32(x: Any) -> Any:
    """Return the error function; NaN and -0.0 stay."""
    size = absolute(x)
    size = select(size > float32(4.2), float32(4.2), size)
    z = size * size
    p = ((((_E5 * z + _E4) * z + _E3) * z + _E2) * z + _E1) * z + _E0
    q = ((((_F5 * z + _F4) * z + _F3) * z + _F2) * z + _F1) * z + _F0
    ratio = size * (p / q)
    return copy_sign(select(ratio > _ONE, _ONE, ratio), x)


# Logarithms: x = 2^e m, m in [sqrt(1/2), sqrt(2)), f = m - 1, log(1 + f) = f - f^2/2 + f^3 P(f).

_P0, _P1, _P2 = float32(0.3333331346511841), float32(-0.25000008940696716), float32(0.20002123713493347)
_P3, _P4, _P5 = float32(-0.16668005287647247), float32(0.14219450950622559), float32(-0.12405342608690262)
_P6, _P7, _P8 = float32(0.11888708919286728), float32(-0.11677505075931549), float32(0.06747692078351974)


@inline
def _log_parts(x: Any) -> Any:
    """Return e, f and log(1 + f) - f of a positive finite number."""
    tiny = x < float32(1.1754944e-38)
    scaled = select(tiny, x * float32(8388608.0), x)
    bits = subtract_int32(bits_of(scaled), int32(0x3F3504F3))
    exponent = shift_right_int32(bits, int32(23))
    f = from_bits(add_int32(and_int32(bits, int32(0x7FFFFF)), int32(0x3F3504F3))) - _ONE
    e = float32(exponent) - select(tiny, float32(23.0), _ZERO)
    p = _P8
    p = ((((p * f + _P7) * f + _P6) * f + _P5) * f + _P4) * f + _P3
    p = ((p * f + _P2) * f + _P1) * f + _P0
    return e, f, (f * p - _HALF) * (f * f)


@inline
def _log_edges(x: Any, result: Any) -> Any:
    result = select(x == _ZERO, float32(-INFINITY), result)
    result = select(x == float32(INFINITY), x, result)
    return select(x >= _ZERO, result, float32(NOT_A_NUMBER))


@inline
def log_float32(x: Any) -> Any:
    """Return the natural logarithm: -inf at 0, NaN below."""
    e, f, rest = _log_parts(x)
    return _log_edges(x, e * _LN2_HIGH + (f + (e * _LN2_LOW + rest)))


_LOG2_E_LOW = float32(0.44269504088896341)


@inline
def log2_float32(x: Any) -> Any:
    """Return the logarithm to base 2."""
    e, f, rest = _log_parts(x)
    # log2(e) = 1 + 0.4427: f itself is added exactly
    return _log_edges(x, ((rest * _LOG2_E_LOW + f * _LOG2_E_LOW) + rest + f) + e)


@inline
def log1p_float32(x: Any) -> Any:
    """Return log(1 + x), exact to rounding near 0 as well; keeps -0.0."""
    u = _ONE + x
    e, f, rest = _log_parts(u)
    # what the rounding of 1 + x lost; u >= 1/2 is exact to one rounding, so one correction is enough
    lost = select(x > _ONE, _ONE - (u - x), x - (u - _ONE)) / u
    result = _log_edges(u, e * _LN2_HIGH + (f + (e * _LN2_LOW + rest + lost)))
    result = select(x == float32(INFINITY), x, result)
    result = select(x == float32(-1.0), float32(-INFINITY), result)
    return select(absolute(x) < float32(1e-8), x, result)


# Casts, remainders and integer powers, as torch defines them.


@inline
def int32_of_float32(x: Any) -> Any:
    """Return x truncated; what does not fit gives the lowest integer."""
    # LLVM leaves the conversion of what does not fit undefined: convert 0 there
    inside = (x >= float32(-2147483648.0)) & (x < float32(2147483648.0))
    return select(inside, int32(select(inside, x, float32(0.0))), int32(-2147483648))


@inline
def int32_of_float64(x: Any) -> Any:
    """Return x truncated; what does not fit gives the lowest integer."""
    inside = (x > float64(-2147483649.0)) & (x < float64(2147483648.0))
    return select(inside, int32(select(inside, x, float64(0.0))), int32(-2147483648))


@inline
def int64_of_float32(x: Any) -> Any:
    """Return x truncated; what does not fit gives the lowest integer."""
    inside = (x >= float32(-9223372036854775808.0)) & (x < float32(9223372036854775808.0))
    return select(inside, int64(select(inside, x, float32(0.0))), int64(-9223372036854775808))


@inline
def int64_of_float64(x: Any) -> Any:
    """Return x truncated; what does not fit gives the lowest integer."""
    inside = (x >= float64(-9223372036854775808.0)) & (x < float64(9223372036854775808.0))
    return select(inside, int64(select(inside, x, float64(0.0))), int64(-9223372036854775808))


@inline
def remainder_floating(x: Any, y: Any) -> Any:
    """Return the remainder with the divisor's sign: fmod, then one addition."""
    remainder = truncated_remainder(x, y)
    moved = (remainder != 0.0) & ((y < 0.0) != (remainder < 0.0))
    return select(moved, remainder + y, remainder)


@inline
def remainder_integer(x: Any, y: Any) -> Any:
    """Return the remainder with the divisor's sign; y is not 0. (The lowest integer by -1 would trap.)"""
    return select(y == int64(-1), int64(0), x % select(y == int64(-1), int64(1), y))


@inline
def power_integer(base: Any, exponent: Any) -> Any:
    """Return base**exponent, wrapping; a negative exponent gives 0 but for the bases 1 and -1."""
    if exponent < 0:
        return select(base == 1, int64(1), select(base == -1, int64(1) - int64(2) * (exponent & 1), int64(0)))
    result = int64(1)
    while exponent > 0:
        if exponent & 1:
            result = result * base
        base = base * base
        exponent = exponent >> 1
    return result
