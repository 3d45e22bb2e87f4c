"""How the work of an attention kernel is cut: blocks of rows, panels of keys and values, what stands on the stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kernels.compiler import gemm
from kernels.compiler.attention_ir import AttentionKernel
from kernels.compiler.gemm_pack import Panels, panels, rounded

LANES = 16
"""Scores are computed in rows of whole vectors, of the widest processors."""
_SCORE_BYTES = 16 << 10
"""What the scores of one block of rows should take: they stay in the first-level cache."""
_FEWEST_ROWS, _MOST_ROWS = 8, 48
_PARTS = 4
"""Causal attention over many keys is printed so many times, each for another number of keys."""
_PANEL_BYTES = 64 << 10
"""Values beyond it are read where they are: putting them in panels no longer keeps them near."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Neighbouring blocks of rows that are computed alike.

    first: the first row; count: of blocks; rows: of each; seen: elements of a row of scores that are looked at.
    """

    first: int
    count: int
    rows: int
    seen: int


@dataclass(frozen=True, slots=True)
class Cut:
    """How the work of one attention is cut. row: elements of a row of scores, whole vectors."""

    row: int
    blocks: tuple[Blocks, ...]
    keys: Panels
    values: Panels | None

    @property
    def stack_bytes(self) -> int:
        """Return what one attention holds on the stack."""
        scores = self.rows * self.row
        return 4 * (self.keys.elements + (self.values.elements if self.values else 0) + scores + 4 * self.row)

    @property
    def rows(self) -> int:
        """Return the rows of the largest block."""
        return max(block.rows for block in self.blocks)


def cut(kernel: AttentionKernel) -> Cut:
    """Return how one attention is cut into blocks of rows, and the panels of its factors."""
    row = rounded(kernel.keys, LANES)
    most = min(_MOST_ROWS, max(_FEWEST_ROWS, _SCORE_BYTES // (4 * row)))
    # Blocks of one size are one function to compile.
    even = next((rows for rows in range(most, most // 2, -1) if kernel.queries % rows == 0), 0)
    sizes = ((kernel.queries // even, even),) if even else gemm.split(kernel.queries, most)
    scores = score_product(kernel, row, sizes[0][1])
    key_panels = replace(panels(scores, gemm.plan(scores)), columns=kernel.keys)
    values = None
    if 4 * kernel.keys * kernel.width <= _PANEL_BYTES or kernel.value_strides[-1] != 1:
        product = value_product(kernel, row, row, sizes[0][1], packed=True)
        values = panels(product, gemm.plan(product))
    # Values in panels are read from the first to the last.
    blocks = _blocks(kernel, sizes, row, key_panels.panel if values is None else row)
    return Cut(row, blocks, key_panels, values)


def _blocks(kernel: AttentionKernel, sizes: Sequence[tuple[int, int]], row: int, panel: int) -> tuple[Blocks, ...]:
    """Return the blocks of rows; causal ones in parts, each of which looks at as many panels of keys as it must."""
    found: list[Blocks] = []
    first = 0
    for count, rows in sizes:
        parts = min(count, _PARTS) if kernel.causal else 1
        for blocks in [size for times, size in gemm.split(count, -(-count // parts)) for _ in range(times)]:
            last = min(first + blocks * rows, kernel.keys) if kernel.causal else kernel.keys
            seen = min(row, rounded(last, panel))
            if found and found[-1].rows == rows and found[-1].seen == seen:
                blocks += found[-1].count
                first = found.pop().first
            found.append(Blocks(first, blocks, rows, seen))
            first += blocks * rows
    return tuple(found)


def score_product(kernel: AttentionKernel, seen: int, rows: int) -> gemm.Product:
    """Return the product of some rows of queries with the keys, as wide as what is looked at."""
    a = (kernel.query_strides[-2], kernel.query_strides[-1])
    return gemm.Product(rows, seen, (gemm.Term(kernel.depth, a, None),))


def value_product(kernel: AttentionKernel, row: int, seen: int, rows: int, packed: bool) -> gemm.Product:
    """Return the product of some rows of scores with the values."""
    b = None if packed else (kernel.value_strides[-2], 0, 1)
    return gemm.Product(rows, kernel.width, (gemm.Term(min(kernel.keys, seen), (row, 1), b),))
