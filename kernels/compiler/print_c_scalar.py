"""One IR value as a C99 expression, over the functions that a printed file begins with.

Written from ir.py's rules alone: it shares no text with the Numba printers, which are tested against it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from kernels.compiler.ir import FLOATING, INTEGER, IrError, Region, Value

C_TYPES = {"float32": "float", "float64": "double", "int32": "int32_t", "int64": "int64_t", "bool": "_Bool"}
"""The C type of a value; a bool in memory is a byte."""

PREAMBLE = """#include <math.h>
#include <stdint.h>
#include <stdlib.h>

static int64_t integer_power(int64_t base, int64_t exponent)
{
    int64_t result = 1;
    if (exponent < 0) {
        if (base != 1 && base != -1)
            return 0;
        exponent = exponent % 2 == 0 ? 0 : 1;
    }
    for (; exponent != 0; exponent /= 2, base *= base)
        if (exponent % 2 != 0)
            result *= base;
    return result;
}

static int64_t integer_remainder(int64_t dividend, int64_t divisor)
{
    if (divisor == -1)
        return 0;
    const int64_t rest = dividend % divisor;
    return rest != 0 && (rest < 0) != (divisor < 0) ? rest + divisor : rest;
}

static double floating_remainder(double dividend, double divisor)
{
    const double rest = fmod(dividend, divisor);
    return rest != 0 && (rest < 0) != (divisor < 0) ? rest + divisor : rest;
}

static float narrow_remainder(float dividend, float divisor)
{
    const float rest = fmodf(dividend, divisor);
    return rest != 0 && (rest < 0) != (divisor < 0) ? rest + divisor : rest;
}

static int32_t narrow_integer(double value)
{
    return value > -2147483649.0 && value < 2147483648.0 ? (int32_t)value : INT32_MIN;
}

static int64_t wide_integer(double value)
{
    return value >= -0x1p63 && value < 0x1p63 ? (int64_t)value : INT64_MIN;
}

"""

_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_BITS = {"and": "&", "or": "|", "xor": "^"}
_LIBRARY = {
    "abs": "fabs", "round": "rint",
    **{op: op for op in (
        "exp", "expm1", "log", "log1p", "log2", "sqrt", "tanh", "erf", "sin", "cos", "floor", "ceil", "trunc",
    )},
}  # fmt: skip


def constant_text(dtype: str, value: float | int | bool | None) -> str:
    """Return a constant of the dtype; floating ones are written in hexadecimal, so that no digit is lost."""
    kind = C_TYPES[dtype]
    if dtype == "bool":
        return "1" if value else "0"
    if dtype in INTEGER:
        whole = int(value or 0)
        return f"({kind})(-INT64_C(9223372036854775807) - 1)" if whole == -(2**63) else f"({kind})INT64_C({whole})"
    number = float(value if value is not None else 0.0)
    if math.isnan(number):
        return f"({kind})NAN"
    if math.isinf(number):
        return f"({kind}){'-' if number < 0 else ''}INFINITY"
    return f"({kind}){number.hex()}"


def value_text(region: Region, value: Value, names: Sequence[str]) -> str:
    """Return the expression of a value that is no load, index or reduction. Raises IrError for an unknown op."""
    if value.op == "constant":
        return constant_text(value.dtype, value.constant)
    source = region.values[value.operands[0]].dtype
    if value.op == "cast":
        return _cast(source, value.dtype, names[0])
    if value.op == "where":
        return f"({names[0]} ? {names[1]} : {names[2]})"
    if value.op in _COMPARE:
        return f"({names[0]} {_COMPARE[value.op]} {names[1]})"
    if value.op in ("isnan", "isinf"):
        return f"({value.op}({names[0]}) != 0)"
    if value.op.startswith(("logical_", "bitwise_")):
        op = value.op.partition("_")[2]
        if op == "not":
            return f"(!{names[0]})" if source == "bool" else f"(~{names[0]})"
        return f"({names[0]} {_BITS[op]} {names[1]})"
    if source in FLOATING:
        return _floating(region, value, names)
    return _integer(value, names)


def _cast(source: str, target: str, name: str) -> str:
    if target == "bool":
        return f"({name} != 0)"
    if source in FLOATING and target in INTEGER:
        return f"{'narrow' if target == 'int32' else 'wide'}_integer({name})"
    return f"(({C_TYPES[target]}){name})"


def _floating(region: Region, value: Value, names: Sequence[str]) -> str:
    """Return the text of a floating op. What float32 cannot do in one rounding is done in double, then rounded."""
    op, kind, first = value.op, C_TYPES[value.dtype], names[0]
    if op in _ARITHMETIC:
        return f"({first} {_ARITHMETIC[op]} {names[1]})"
    if op in _LIBRARY:
        return f"(({kind}){_LIBRARY[op]}((double){first}))"
    if op == "pow":
        return _power(region.values[value.operands[1]], kind, names)
    if op == "remainder":
        return f"{'narrow' if kind == 'float' else 'floating'}_remainder({first}, {names[1]})"
    texts = {
        "neg": f"(-{first})",
        "rsqrt": f"(({kind})(1.0 / sqrt((double){first})))",
        "reciprocal": f"(1 / {first})",
        "sigmoid": f"(({kind})(1.0 / (1.0 + exp(-(double){first}))))",
        "sign": f"(({kind})(({first} > 0) - ({first} < 0)))",
        "relu": f"({first} < 0 ? 0 : {first})",
    }
    if op in texts:
        return texts[op]
    second = names[1]
    pairs = {
        "maximum": f"(isnan({first}) || {first} > {second} ? {first} : {second})",
        "minimum": f"(isnan({first}) || {first} < {second} ? {first} : {second})",
        "atan2": f"(({kind})atan2((double){first}, (double){second}))",
    }
    if op not in pairs:
        raise IrError(f"{op} of {value.dtype} has no C text")
    return pairs[op]


def _power(exponent: Value, kind: str, names: Sequence[str]) -> str:
    """Return pow; the constant exponents for which torch takes other functions are those functions here too."""
    base = names[0]
    apart = {
        2.0: f"({base} * {base})", 3.0: f"({base} * {base} * {base})", 0.5: f"(({kind})sqrt((double){base}))",
        -0.5: f"(({kind})(1.0 / sqrt((double){base})))", -1.0: f"(1 / {base})", -2.0: f"(1 / ({base} * {base}))",
    }  # fmt: skip
    if exponent.op != "constant" or exponent.constant is None:
        return f"(({kind})pow((double){base}, (double){names[1]}))"
    number = float(exponent.constant)
    return apart.get(number, f"(({kind})pow((double){base}, {constant_text('float64', number)}))")


def _integer(value: Value, names: Sequence[str]) -> str:
    op, kind, first = value.op, C_TYPES[value.dtype], names[0]
    if op in _ARITHMETIC and op != "div":
        return f"(({kind})({first} {_ARITHMETIC[op]} {names[1]}))"
    texts = {
        "neg": f"(({kind})(-{first}))",
        "abs": f"(({kind})({first} < 0 ? -{first} : {first}))",
        "sign": f"(({kind})(({first} > 0) - ({first} < 0)))",
        "relu": f"({first} < 0 ? 0 : {first})",
        **dict.fromkeys(("floor", "ceil", "round", "trunc"), first),
    }
    if op in texts:
        return texts[op]
    second = names[1] if len(names) > 1 else ""
    pairs = {
        "maximum": f"({first} > {second} ? {first} : {second})",
        "minimum": f"({first} < {second} ? {first} : {second})",
        "pow": f"(({kind})integer_power({first}, {second}))",
        "remainder": f"(({kind})integer_remainder({first}, {second}))",
    }
    if op not in pairs:
        raise IrError(f"{op} of {value.dtype} has no C text")
    return pairs[op]
