"""A loop in LLVM whose values stay in registers, for the inner loops of convolutions.

Self-contained: an exported artifact carries it beside its kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

_INT64 = ir.IntType(64)


def repeat(
    builder: Any, count: Any, initial: Sequence[Any], body: Callable[[Any, Sequence[Any]], Sequence[Any]]
) -> list[Any]:
    """Emit `count` rounds of `body(round, carried values)`, none where it is 0; return the last carried values."""
    before = builder.block
    head, inside, after = (builder.append_basic_block(name) for name in ("head", "inside", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    number = builder.phi(_INT64)
    carried = [builder.phi(value.type) for value in initial]
    builder.cbranch(builder.icmp_signed("<", number, count), inside, after)
    builder.position_at_end(inside)
    results = body(number, carried)
    following = builder.add(number, ir.Constant(_INT64, 1))
    number.add_incoming(ir.Constant(_INT64, 0), before)
    number.add_incoming(following, builder.block)
    for value, start, result in zip(carried, initial, results, strict=True):
        value.add_incoming(start, before)
        value.add_incoming(result, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return carried
