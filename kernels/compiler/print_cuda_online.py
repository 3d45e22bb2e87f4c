"""Pairs of reductions of which the second needs the first, found in one walk over a row that is too long to keep."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kernels.compiler.ir import FLOATING, Region, Value
from kernels.compiler.print_cuda_reduce import Reduction, combined, tree
from kernels.compiler.print_cuda_unit import row_length

COUNTABLE = 2**24  # up to here a float32 counts elements exactly


def online_pairs(region: Region, lanes: int) -> dict[int, int]:
    """Return for each sum that is best found together with an earlier reduction the position of that one.

    Those are the sum of exp(a - maximum of a), and, where a thread takes several elements at a time, the sum of
    (a - mean of a) squared: its divisions, for each element alone, would take longer than reading the row again.
    """
    pairs: dict[int, int] = {}
    for position, value in enumerate(region.values):
        if value.op == "reduce_sum" and value.dtype in FLOATING:
            first = _of_softmax(region, value)
            if first is None and lanes > 1:
                first = _of_variance(region, value)
            if first is not None and first not in pairs and first not in pairs.values():
                pairs[position] = first
    return pairs


def online(region: Region, first: int, second: int) -> Reduction:
    """Return the reduction that finds a pair of online_pairs."""
    value = region.values[first]
    build = online_softmax if value.op == "reduce_max" else online_variance
    return build(first, second, value.dtype, value.operands[0])


def _of_softmax(region: Region, total: Value) -> int | None:
    power = region.values[total.operands[0]]
    if power.op != "exp" or region.values[power.operands[0]].op != "sub":
        return None
    argument, maximum = region.values[power.operands[0]].operands
    reduction = region.values[maximum]
    return maximum if reduction.op == "reduce_max" and reduction.operands == (argument,) else None


def _of_variance(region: Region, total: Value) -> int | None:
    square = region.values[total.operands[0]]
    if not _is_square(region, square) or row_length(region) >= COUNTABLE:
        return None
    centred = region.values[square.operands[0]]
    if centred.op != "sub":
        return None
    argument, mean = centred.operands
    return _sum_of_mean(region, argument, region.values[mean])


def _is_square(region: Region, value: Value) -> bool:
    if value.op == "pow":
        return region.values[value.operands[1]].constant == 2
    return value.op == "mul" and value.operands[0] == value.operands[1]


def _sum_of_mean(region: Region, argument: int, mean: Value) -> int | None:
    """Return the sum of the argument if `mean` is that sum times or over the right constant."""
    if mean.op not in ("mul", "div"):
        return None
    length = row_length(region)
    for total, factor in (mean.operands, mean.operands[::-1]):
        number, reduction = region.values[factor].constant, region.values[total]
        share = 1 / length if mean.op == "mul" else length
        if number is not None and math.isclose(number, share, rel_tol=1e-6):
            is_sum = reduction.op == "reduce_sum" and reduction.operands == (argument,)
            return total if is_sum and (mean.op == "mul" or factor == mean.operands[1]) else None
    return None


def online_softmax(maximum: int, total: int, dtype: str, argument: int) -> Reduction:
    """Return the maximum of a row and the sum of exp(element - maximum), in one walk.

    The sum is kept relative to the maximum so far, and rescaled when that grows; where nothing but -inf was met it is
    relative to 0. A row of -inf alone gives NaN, as subtracting the maximum from itself does.
    Source: Milakov and Gimelshein 2018, arXiv:1805.02867.
    """
    top, add, highest, shift = f"p{maximum}", f"p{total}", f"t{maximum}", f"s{maximum}"
    shifted = f"{shift} = select({highest} > {dtype}(-INFINITY), {highest}, {dtype}(0.0))"

    def power(name: str) -> str:
        return f"exp_{dtype}({name} - {shift})"

    def take(terms: Sequence[str]) -> list[str]:
        lines = [f"{highest} = {top}", *tree("reduce_max", dtype, terms, f"u{maximum}", highest)]
        lines += [shifted, f"{add} = {add} * {power(top)}"]
        powers = [f"e{total}_{lane}" for lane in range(len(terms))]
        lines += [f"{name} = {power(term)}" for name, term in zip(powers, terms, strict=True)]
        return [*lines, *tree("reduce_sum", dtype, powers, f"u{total}", add), f"{top} = {highest}"]

    return Reduction(
        argument=argument,
        running={str(maximum): dtype, str(total): dtype},
        start=(f"{top} = {dtype}(-INFINITY)", f"{add} = {dtype}(0.0)"),
        take=take,
        merge=(
            f"{highest} = {combined('reduce_max', dtype, top, f'q{maximum}')}",
            shifted,
            f"{add} = {add} * {power(top)} + q{total} * {power(f'q{maximum}')}",
            f"{top} = {highest}",
        ),
        finish=(f"v{maximum} = {top}", f"v{total} = {add} + ({top} - {top})"),
    )


def online_variance(total: int, squares: int, dtype: str, argument: int) -> Reduction:
    """Return the sum of a row and the sum of (element - mean) squared, in one walk.

    Squares are taken around the mean of each part; two parts merge by the distance of their means.
    Source: Chan, Golub and LeVeque 1983, doi:10.1080/00031305.1983.10483115.
    """
    add, square, count = f"p{total}", f"p{squares}", f"pn{total}"
    other_add, other_square, other_count = f"q{total}", f"q{squares}", f"qn{total}"
    zero, one = f"{dtype}(0.0)", f"{dtype}(1.0)"

    def merged() -> list[str]:
        both = f"b{total} = {count} + {other_count}"
        known = f"({count} > {zero}) & ({other_count} > {zero})"
        gap = f"g{total} = select({known}, {other_add} / {other_count} - {add} / {count}, {zero})"
        weight = f"w{total} = {count} * {other_count} / maximum(b{total}, {one})"
        return [
            both,
            gap,
            weight,
            f"{square} = {square} + {other_square} + g{total} * g{total} * w{total}",
            f"{add} = {add} + {other_add}",
            f"{count} = b{total}",
        ]

    def take(terms: Sequence[str]) -> list[str]:
        number = f"{dtype}({len(terms)}.0)"
        lines = [f"{other_count} = {number}", f"{other_add} = {zero}", f"{other_square} = {zero}"]
        lines += [*tree("reduce_sum", dtype, terms, f"t{total}", other_add), f"m{total} = {other_add} / {number}"]
        names = [f"d{total}_{lane}" for lane in range(len(terms))]
        lines += [f"{name} = {term} - m{total}" for name, term in zip(names, terms, strict=True)]
        lines += [f"{name} = {name} * {name}" for name in names]
        return [*lines, *tree("reduce_sum", dtype, names, f"t{squares}", other_square), *merged()]

    return Reduction(
        argument=argument,
        running={str(total): dtype, str(squares): dtype, f"n{total}": dtype},
        start=(f"{add} = {zero}", f"{square} = {zero}", f"{count} = {zero}"),
        take=take,
        merge=tuple(merged()),
        finish=(f"v{total} = {add}", f"v{squares} = {square}"),
    )
