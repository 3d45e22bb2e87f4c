"""The text of one value: IR op and operand names -> a Python expression over the prelude's functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from kernels.compiler.ir import FLOATING, INTEGER, IrError, Region, Value
from kernels.compiler.signs import never_positive

_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_INTRINSIC = {
    "abs": "absolute",
    "sqrt": "square_root",
    "floor": "floor",
    "ceil": "ceil",
    "trunc": "trunc",
    "round": "round_half_even",
}
_POLYNOMIAL = ("exp", "expm1", "sigmoid", "tanh", "erf", "log", "log2", "log1p")
_LOGIC = {"and": "&", "or": "|", "xor": "^"}
_ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_INT32 = {"add": "add_int32", "sub": "subtract_int32", "mul": "multiply_int32"}


def literal(dtype: str, value: float | int | bool | None) -> str:
    """Return a constant of the dtype as source text, e.g. `float32(0.5)`."""
    if dtype == "bool":
        return str(bool(value))
    if dtype in INTEGER:
        return f"{dtype}({int(value or 0)})"
    number = float(value or 0.0) if value != 0 else float(value)
    if math.isnan(number):
        return f"{dtype}(NOT_A_NUMBER)"
    if math.isinf(number):
        return f"{dtype}({'-' if number < 0 else ''}INFINITY)"
    return f"{dtype}({number!r})"


def expression(region: Region, value: Value, names: Sequence[str]) -> str:
    """Return the text that computes `value` from its operands' names. Loads, indices and reductions have none here."""
    if value.op == "constant":
        return literal(value.dtype, value.constant)
    kind = region.values[value.operands[0]].dtype
    if value.op == "cast":
        return _cast(kind, value.dtype, names[0])
    if value.op == "where":
        return f"select({names[0]}, {names[1]}, {names[2]})"
    if value.op in _COMPARE:
        return f"{names[0]} {_COMPARE[value.op]} {names[1]}"
    if value.op == "isnan":
        return f"{names[0]} != {names[0]}"
    if value.op == "isinf":
        return f"absolute({names[0]}) == {kind}(INFINITY)"
    if value.op.startswith(("logical_", "bitwise_")):
        return _bitwise(kind, value.op.partition("_")[2], names)
    if kind in FLOATING:
        return _floating(region, value, kind, names)
    if kind in INTEGER:
        return _integer(value, kind, names)
    raise IrError(f"{value.op} of {kind} cannot be printed")


def _constant_operand(region: Region, value: Value, position: int) -> float | int | bool | None:
    operand = region.values[value.operands[position]]
    return operand.constant if operand.op == "constant" else None


def _cast(source: str, target: str, name: str) -> str:
    if source == target:
        return name
    if target == "bool":
        return f"{name} != {literal(source, 0)}"
    if source in FLOATING and target in INTEGER:
        return f"{target}_of_{source}({name})"
    if source == "bool":
        return f"select({name}, {literal(target, 1)}, {literal(target, 0)})"
    return f"{target}({name})"


def _bitwise(kind: str, op: str, names: Sequence[str]) -> str:
    if op == "not":
        return {"bool": f"not {names[0]}", "int32": f"xor_int32({names[0]}, int32(-1))"}.get(kind, f"~{names[0]}")
    if kind == "int32":
        return f"{op}_int32({names[0]}, {names[1]})"
    return f"{names[0]} {_LOGIC[op]} {names[1]}"


def _floating(region: Region, value: Value, kind: str, names: Sequence[str]) -> str:
    op, first = value.op, names[0]
    if op in _ARITHMETIC:
        return f"{first} {_ARITHMETIC[op]} {names[1]}"
    if op in _INTRINSIC:
        return f"{_INTRINSIC[op]}({first})"
    if op == "exp" and kind == "float32" and never_positive(region, value.operands[0]):
        return f"exp_nonpositive_float32({first})"
    if op in _POLYNOMIAL:
        return f"{op}_float32({first})" if kind == "float32" else _library(op, first)
    if op == "pow":
        return _power(_constant_operand(region, value, 1), kind, names)
    zero, one = literal(kind, 0.0), literal(kind, 1.0)
    written: dict[str, Callable[[], str]] = {
        "neg": lambda: f"-{first}",
        "rsqrt": lambda: f"{one} / square_root({first})",
        "reciprocal": lambda: f"{one} / {first}",
        "sin": lambda: f"{kind}(math.sin({first}))",
        "cos": lambda: f"{kind}(math.cos({first}))",
        "sign": lambda: f"select({first} > {zero}, {one}, select({first} < {zero}, -{one}, {zero}))",
        "relu": lambda: f"select({first} < {zero}, {zero}, {first})",
        "maximum": lambda: f"maximum({first}, {names[1]})",
        "minimum": lambda: f"minimum({first}, {names[1]})",
        "remainder": lambda: f"remainder_floating({first}, {names[1]})",
        "atan2": lambda: f"{kind}(math.atan2({first}, {names[1]}))",
    }
    return written[op]()


def _library(op: str, name: str) -> str:
    """Return the mathematical library's function, for float64."""
    if op == "sigmoid":
        return f"float64(1.0) / (float64(1.0) + math.exp(-{name}))"
    return f"math.{op}({name})"


def _power(exponent: float | int | bool | None, kind: str, names: Sequence[str]) -> str:
    """Return what torch computes for the constant exponents that it treats apart, else the library's pow."""
    base, one = names[0], literal(kind, 1.0)
    apart = {
        2.0: f"{base} * {base}",
        3.0: f"{base} * {base} * {base}",
        0.5: f"square_root({base})",
        -0.5: f"{one} / square_root({base})",
        -1.0: f"{one} / {base}",
        -2.0: f"{one} / ({base} * {base})",
    }
    if exponent is not None and float(exponent) in apart:
        return apart[float(exponent)]
    if exponent is not None:
        # as torch: the exponent is not rounded to float32
        return f"{kind}(math.pow(float64({base}), {literal('float64', exponent)}))"
    return f"{kind}(math.pow({base}, {names[1]}))"


def _integer(value: Value, kind: str, names: Sequence[str]) -> str:
    op, first, zero = value.op, names[0], literal(kind, 0)
    if op in ("floor", "ceil", "round", "trunc"):
        return first
    if op in _INT32:
        return f"{_INT32[op]}({first}, {names[1]})" if kind == "int32" else f"{first} {_ARITHMETIC[op]} {names[1]}"
    negative = f"subtract_int32({zero}, {first})" if kind == "int32" else f"-{first}"
    written: dict[str, Callable[[], str]] = {
        "neg": lambda: negative,
        "abs": lambda: f"select({first} < {zero}, {negative}, {first})",
        "sign": lambda: f"select({first} > {zero}, {kind}(1), select({first} < {zero}, {kind}(-1), {zero}))",
        "relu": lambda: f"select({first} < {zero}, {zero}, {first})",
        "maximum": lambda: f"select({first} > {names[1]}, {first}, {names[1]})",
        "minimum": lambda: f"select({first} < {names[1]}, {first}, {names[1]})",
        "pow": lambda: f"{kind}(power_integer(int64({first}), int64({names[1]})))",
        "remainder": lambda: f"{kind}(remainder_integer(int64({first}), int64({names[1]})))",
    }
    return written[op]()
