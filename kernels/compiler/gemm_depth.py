"""The loop along the depth of a matrix product: several chains of sums, and blocks that keep float32 sums accurate.

Self-contained but for gemm_vector.py: an exported artifact carries both beside its kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from kernels.compiler.gemm_vector import INT64, Vectors

BLOCK = 128
"""The most products that one float32 sum takes in before it is added to the total in memory."""
CHAINS = 8
"""Independent sums that hide the latency of multiply-add."""

Products = Callable[[Any, Sequence[Any]], list[Any]]
"""(step, sums) -> the sums with the products of that step."""
Put = Callable[[Sequence[Any], bool], None]
"""(sums, whether to add them to memory or to replace what is there)."""


def sum_in_blocks(
    vectors: Vectors, steps: int, initial: Sequence[Any], products: Products, put: Put, accumulate: bool
) -> None:
    """Emit the sum of `products` over `steps` steps, `initial` added to it, and what puts it into memory."""
    length = BLOCK * max(1, CHAINS // len(initial))
    if steps <= length + length // 4:
        put(_block(vectors, 0, steps, initial, products), accumulate)
        return
    put(initial, accumulate)
    zeros = [vectors.zero()] * len(initial)

    def block(start: Any, carried: Sequence[Any]) -> Sequence[Any]:
        put(_block(vectors, start, length, zeros, products), True)
        return carried

    _loop(vectors.builder, steps // length, length, block, ())
    if steps % length:
        put(_block(vectors, steps // length * length, steps % length, zeros, products), True)


def _block(vectors: Vectors, start: Any, steps: int, initial: Sequence[Any], products: Products) -> Sequence[Any]:
    """Return the sums over `steps` steps from `start` on."""
    count = len(initial)
    chains = max(1, CHAINS // count)
    together = max(2, chains)
    sums = [*initial, *[vectors.zero()] * (count * (chains - 1))]

    def take(first: Any, sums: Sequence[Any], steps: int) -> Sequence[Any]:
        sums = list(sums)
        for step in range(steps):
            own = step % chains * count
            sums[own : own + count] = products(
                vectors.index((start, 1), (first, 1), (step, 1)), sums[own : own + count]
            )
        return sums

    whole = steps // together
    sums = list(_loop(vectors.builder, whole, together, lambda first, carried: take(first, carried, together), sums))
    return _joined(vectors, take(whole * together, sums, steps % together), count)


def _joined(vectors: Vectors, sums: Sequence[Any], count: int) -> Sequence[Any]:
    """Return the sums of all chains, added in pairs."""
    chains = [sums[first : first + count] for first in range(0, len(sums), count)]
    while len(chains) > 1:
        pairs = [
            [vectors.add(left, right) for left, right in zip(*chains[first : first + 2], strict=True)]
            for first in range(0, len(chains) - 1, 2)
        ]
        chains = [*pairs, *chains[2 * len(pairs) :]]
    return chains[0]


def _loop(
    builder: Any,
    trips: int,
    stride: int,
    body: Callable[[Any, Sequence[Any]], Sequence[Any]],
    carried: Sequence[Any],
) -> Sequence[Any]:
    """Emit `trips` rounds of `body(first, carried values)`, first = 0, stride, …; return the last carried values."""
    if trips == 0:
        return carried
    if trips == 1:
        return body(0, carried)
    before, head = builder.block, builder.append_basic_block("products")
    after = builder.append_basic_block("summed")
    builder.branch(head)
    builder.position_at_end(head)
    position = builder.phi(INT64)
    position.add_incoming(ir.Constant(INT64, 0), before)
    entering = [builder.phi(value.type) for value in carried]
    for value, initial in zip(entering, carried, strict=True):
        value.add_incoming(initial, before)
    results = body(position, entering)
    following = builder.add(position, ir.Constant(INT64, stride))
    position.add_incoming(following, builder.block)
    for value, result in zip(entering, results, strict=True):
        value.add_incoming(result, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, ir.Constant(INT64, trips * stride)), head, after)
    builder.position_at_end(after)
    return results
