"""What a reduction starts from and how it takes one more value, as source text."""

from __future__ import annotations

from kernels.compiler.expression import literal
from kernels.compiler.ir import FLOATING, IrError

_LOWEST = {"int32": -(2**31), "int64": -(2**63), "float32": float("-inf"), "float64": float("-inf")}
_HIGHEST = {"int32": 2**31 - 1, "int64": 2**63 - 1, "float32": float("inf"), "float64": float("inf")}


def start(op: str, dtype: str) -> str:
    """Return the constant that a reduction starts from."""
    if op in ("reduce_any", "reduce_all"):
        return str(op == "reduce_all")
    if op == "reduce_max":
        return literal(dtype, _LOWEST[dtype])
    if op == "reduce_min":
        return literal(dtype, _HIGHEST[dtype])
    return literal(dtype, 0 if op == "reduce_sum" else 1)


def step(op: str, dtype: str, total: str, value: str) -> str:
    """Return the expression that adds one value to the total. Sums and products of floats may be reordered."""
    if op == "reduce_any":
        return f"{total} | {value}"
    if op == "reduce_all":
        return f"{total} & {value}"
    if op in ("reduce_sum", "reduce_prod"):
        name = op.removeprefix("reduce_")
        if dtype in FLOATING:
            return f"accumulate_{'sum' if name == 'sum' else 'product'}({total}, {value})"
        if dtype == "int32":
            return f"{'add' if name == 'sum' else 'multiply'}_int32({total}, {value})"
        return f"{total} {'+' if name == 'sum' else '*'} {value}"
    if op not in ("reduce_max", "reduce_min"):
        raise IrError(f"{op} is no reduction")
    if dtype in FLOATING:
        return f"{'maximum' if op == 'reduce_max' else 'minimum'}({total}, {value})"
    return f"select({value} {'>' if op == 'reduce_max' else '<'} {total}, {value}, {total})"
