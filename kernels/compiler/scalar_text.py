"""One IR value as a Python expression for Numba-CUDA, every literal typed: an untyped one computes in float64."""

from __future__ import annotations

import math

from kernels.compiler.ir import COMPARE, FLOATING, INTEGER, ITEM_BYTES, IrError, Value

# {0} and {1} are the operands, {t} the dtype. Infinities and NaN come out of these as torch has them.
_FLOAT = {
    "neg": "-{0}", "abs": "fabs_{t}({0})", "reciprocal": "{t}(1.0) / {0}",
    "sigmoid": "{t}(1.0) / ({t}(1.0) + exp_{t}(-{0}))", "round": "rint_{t}({0})",
    "relu": "select({0} < {t}(0.0), {t}(0.0), {0})",
    "sign": "select({0} > {t}(0.0), {t}(1.0), select({0} < {t}(0.0), {t}(-1.0), {t}(0.0)))",
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}",
    "maximum": "maximum({0}, {1})", "minimum": "minimum({0}, {1})",
    "remainder": "remainder_{t}({0}, {1})", "pow": "pow_{t}({0}, {1})", "atan2": "atan2_{t}({0}, {1})",
    "isnan": "{0} != {0}", "isinf": "fabs_{t}({0}) == {t}(INFINITY)",
    **{op: f"{op}_{{t}}({{0}})" for op in (
        "exp", "expm1", "log", "log1p", "log2", "sqrt", "rsqrt", "tanh", "erf", "sin", "cos", "floor", "ceil", "trunc",
    )},
}  # fmt: skip
# Numba widens integer arithmetic to 64 bits; the conversion back wraps, as torch does.
_INTEGER = {
    "neg": "{t}(-{0})", "abs": "select({0} >= {t}(0), {0}, {t}(-{0}))", "relu": "select({0} < {t}(0), {t}(0), {0})",
    "sign": "select({0} > {t}(0), {t}(1), select({0} < {t}(0), {t}(-1), {t}(0)))",
    "floor": "{0}", "ceil": "{0}", "round": "{0}", "trunc": "{0}",
    "add": "{t}({0} + {1})", "sub": "{t}({0} - {1})", "mul": "{t}({0} * {1})", "remainder": "{t}({0} % {1})",
    "maximum": "maximum({0}, {1})", "minimum": "minimum({0}, {1})",
    "bitwise_and": "{t}({0} & {1})", "bitwise_or": "{t}({0} | {1})", "bitwise_xor": "{t}({0} ^ {1})",
    "bitwise_not": "{t}(~{0})", "pow": "{t}(power_int64({0}, {1}))",
}  # fmt: skip
_BOOL = {
    "logical_and": "{0} & {1}", "logical_or": "{0} | {1}", "logical_xor": "{0} != {1}", "logical_not": "not {0}",
    "bitwise_and": "{0} & {1}", "bitwise_or": "{0} | {1}", "bitwise_xor": "{0} != {1}", "bitwise_not": "not {0}",
}  # fmt: skip
_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def scalar_text(value: Value, source: str, operands: list[str]) -> str:
    """Return the value's expression.

    source: dtype of the first operand. Raises IrError for an op that has no CUDA text on that dtype.
    """
    if value.op == "constant":
        return _literal(value)
    if value.op == "cast":
        return _cast(value.dtype, source, operands[0])
    if value.op == "where":
        return f"select({operands[0]}, {operands[1]}, {operands[2]})"
    if value.op in COMPARE:
        return f"{operands[0]} {_COMPARE[value.op]} {operands[1]}"
    table = _FLOAT if source in FLOATING else _INTEGER if source in INTEGER else _BOOL
    if value.op not in table:
        raise IrError(f"{value.op} on {source} has no CUDA text; keep this op outside the fused region")
    return table[value.op].format(*operands, t=source)


def _literal(value: Value) -> str:
    constant = value.constant
    assert constant is not None
    if value.dtype == "bool":
        return str(bool(constant))
    if value.dtype in INTEGER:
        return f"{value.dtype}({int(constant)})"
    number = float(constant)
    if math.isnan(number):
        return f"{value.dtype}(NAN)"
    if math.isinf(number):
        return f"{value.dtype}({'-' if number < 0 else ''}INFINITY)"
    return f"{value.dtype}({number!r})"


def _cast(dtype: str, source: str, operand: str) -> str:
    if dtype == source:
        return operand
    if dtype == "bool":
        return f"{operand} != {source}(0)"
    if source in FLOATING and dtype in INTEGER:
        # NaN and what is out of range give the lowest integer; the device's own conversion would saturate.
        bound = 2 ** (8 * ITEM_BYTES[dtype] - 1)
        inside = f"{operand} >= {source}({-float(bound)!r}) and {operand} < {source}({float(bound)!r})"
        return f"({dtype}({operand}) if {inside} else {dtype}({-bound}))"
    return f"{dtype}({operand})"
