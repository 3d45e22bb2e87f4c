"""How the product of a ProductKernel is cut: blocks of rows, strips of columns, and tiles inside them."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.compiler.gemm import split
from kernels.compiler.gemm_target import Target, host_target
from kernels.compiler.product_ir import ProductKernel

STRIP = 64
"""Columns whose region is applied at a time: some vectors of them, so that the region's loops are wide ones."""
_LEFT_BYTES = 256 << 10
"""Of a block of rows: it stays in the second-level cache while all columns pass by."""
_SUMS = 8192
"""The most float32 sums of a strip that wait for the region: 32 KiB of stack."""


@dataclass(frozen=True, slots=True)
class DotsPlan:
    """How the product is cut.

    blocks: (how many, rows of each) of the blocks of rows, in order.
    rows, columns: of a full tile; strip: columns of a strip, of each group.
    """

    target: Target
    blocks: tuple[tuple[int, int], ...]
    rows: int
    columns: int
    strip: int

    def strips(self, columns: int) -> int:
        """Return how many strips there are, a narrower last one included."""
        return -(-columns // self.strip)


def plan_dots(kernel: ProductKernel, target: Target | None = None) -> DotsPlan:
    """Return the plan of a kernel whose factors both lie along the depth (default: for this machine)."""
    chosen = host_target() if target is None else target
    groups = kernel.fused.product.groups
    # Eight sums a row are stored as one vector; three rows of them share the vectors of the right factor.
    columns = 8 if chosen.sums >= 16 else 4
    rows = max(1, chosen.sums // columns)
    strip = STRIP
    while strip > columns and strip * groups > STRIP * 2:
        strip //= 2
    height = min(_LEFT_BYTES // (4 * kernel.depth), _SUMS // (strip * groups))
    height = max(rows, height // rows * rows)
    return DotsPlan(chosen, split(kernel.rows, height), min(rows, kernel.rows), columns, strip)
