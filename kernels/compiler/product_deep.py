"""A product over a great depth, block after block of it: what a block reads of both factors stays in the cache."""

from __future__ import annotations

from dataclasses import replace

from kernels.compiler.gemm import Plan, Product, plan
from kernels.compiler.gemm_print import Into, Place, print_product
from kernels.compiler.product_ir import ProductKernel
from kernels.compiler.source import Source

DEPTH = 128
"""Of a block: a panel of the right factor fits the first-level cache then, and a sum takes in no more anyway."""
_FEWEST_BLOCKS = 8
_MOST_SUMS_BYTES = 1 << 19
"""They pass once a block, from the second-level cache."""


def is_deep(product: Product, chosen: Plan) -> bool:
    """Return whether the tiles of a product would each read more than caches hold, all along the depth."""
    tiles = sum(count for count, _ in chosen.rows)
    small = 4 * product.rows * product.columns <= _MOST_SUMS_BYTES
    blocks = product.terms[0].depth // DEPTH
    return chosen.form == "tiles" and small and tiles >= _FEWEST_BLOCKS and blocks >= _FEWEST_BLOCKS


def stands_alone(kernel: ProductKernel) -> bool:
    """Return whether a product is deep: faster block after block, and its region afterwards, than tile by tile."""
    return not kernel.along_depth and is_deep(kernel.fused.product, plan(kernel.fused.product))


def print_deep(
    source: Source, product: Product, chosen: Plan, operands: tuple[Place, Place], to: Into
) -> tuple[str, ...]:
    """Print a product of one term like print_product, and return the lines for the module's top."""
    (term,) = product.terms
    blocks, rest = divmod(term.depth, DEPTH)
    added = replace(to, accumulate=True)

    def block(depth: int) -> Product:
        return replace(product, terms=(replace(term, depth=depth),))

    def moved(first: str) -> tuple[Place, Place]:
        strides = (term.a[1], term.b[0] if term.b is not None else 0)
        left, right = (
            Place(f"{place.address} + {4 * stride} * {first}", place.scope)
            for place, stride in zip(operands, strides, strict=True)
        )
        return left, right

    lines = print_product(source, "first", block(DEPTH), chosen, [operands], to)
    with source.block(f"for depth in range({DEPTH}, {blocks * DEPTH}, {DEPTH}):"):
        lines += print_product(source, "further", block(DEPTH), chosen, [moved("depth")], added)
    if rest:
        lines += print_product(source, "last", block(rest), chosen, [moved(str(blocks * DEPTH))], added)
    return lines
