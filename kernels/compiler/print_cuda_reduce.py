"""The lines by which a CUDA row kernel adds up a row: each thread for itself first, then thread with thread.

A thread's running result lies in the variables p…; the result that it is merged with in q…, of the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kernels.compiler.ir import INTEGER, ITEM_BYTES, Value
from kernels.compiler.scalar_text import scalar_text

_PAIRWISE = {"reduce_sum": "add", "reduce_prod": "mul", "reduce_max": "maximum", "reduce_min": "minimum"}


@dataclass(frozen=True, slots=True)
class Reduction:
    """How one result of a row, or two in one go, comes about.

    argument: position of the value that is reduced.
    running:  dtype of each variable that holds a thread's result, by name without its p or q.
    start:    lines that set p to the result of no element.
    take:     names of elements -> lines that take them into p.
    merge:    lines that merge q into p.
    finish:   lines that set the row-level values from p.
    """

    argument: int
    running: dict[str, str]
    start: tuple[str, ...]
    take: Callable[[Sequence[str]], list[str]]
    merge: tuple[str, ...]
    finish: tuple[str, ...]


def simple(position: int, op: str, dtype: str, argument: int) -> Reduction:
    """Return the reduction by one op of the IR, whose result is the value at `position`."""
    if dtype == "bool":
        return _of_bools(position, op == "reduce_any", argument)
    total, other = f"p{position}", f"q{position}"
    return Reduction(
        argument=argument,
        running={str(position): dtype},
        start=(f"{total} = {_identity(op, dtype)}",),
        take=lambda terms: tree(op, dtype, terms, f"t{position}", total),
        merge=(f"{total} = {combined(op, dtype, total, other)}",),
        finish=(f"v{position} = {total}",),
    )


def _of_bools(position: int, is_any: bool, argument: int) -> Reduction:
    """Return any or all: the running result is an int32, for which there are shuffles."""
    total, other = f"p{position}", f"q{position}"

    def take(terms: Sequence[str]) -> list[str]:
        if is_any:
            return [f"{total} = select({' | '.join(terms)}, int32(1), {total})"]
        return [f"{total} = select({' & '.join(terms)}, {total}, int32(0))"]

    return Reduction(
        argument=argument,
        running={str(position): "int32"},
        start=(f"{total} = int32({0 if is_any else 1})",),
        take=take,
        merge=(f"{total} = int32({total} {'|' if is_any else '&'} {other})",),
        finish=(f"v{position} = {total} != int32(0)",),
    )


def _identity(op: str, dtype: str) -> str:
    if op in ("reduce_sum", "reduce_prod"):
        number = int(op == "reduce_prod")
        return f"{dtype}({number})" if dtype in INTEGER else f"{dtype}({number}.0)"
    if dtype in INTEGER:
        bound = 2 ** (8 * ITEM_BYTES[dtype] - 1)
        return f"{dtype}({-bound if op == 'reduce_max' else bound - 1})"
    return f"{dtype}({'-' if op == 'reduce_max' else ''}INFINITY)"


def combined(op: str, dtype: str, first: str, second: str) -> str:
    """Return the expression that combines two elements."""
    return scalar_text(Value(_PAIRWISE[op], dtype, (0, 1)), dtype, [first, second])


def tree(op: str, dtype: str, terms: Sequence[str], temporary: str, total: str) -> list[str]:
    """Return the lines that combine the terms pairwise and take the result into `total`."""
    lines: list[str] = []
    left = list(terms)
    while len(left) > 1:
        pairs = len(left) // 2
        for k in range(pairs):
            name = f"{temporary}_{len(lines)}"
            lines.append(f"{name} = {combined(op, dtype, left[2 * k], left[2 * k + 1])}")
            left[2 * k] = name
        left = left[0 : 2 * pairs : 2] + left[2 * pairs :]
    return [*lines, f"{total} = {combined(op, dtype, total, left[0])}"]
