"""Matrix products inside generated kernels: what is to be summed, and the tiles that it is cut into."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.compiler.gemm_target import Target, host_target
from kernels.compiler.ir import IrError

HALF_OF_FIRST_CACHE = 16 << 10
"""Bytes; 32 KiB is the least that the processors of the last ten years have."""


@dataclass(frozen=True, slots=True)
class Term:
    """A [rows, depth] @ B [depth, groups, columns], one term of a sum of products; strides are in elements.

    a: strides (row, k).  b: strides (k, group, column), or None for B in panels as gemm_pack.pack lays them.
    first, groups: the groups of the product that the term adds to, `groups` of them from `first` on; None: all.
    """

    depth: int
    a: tuple[int, int]
    b: tuple[int, int, int] | None
    first: int = 0
    groups: int | None = None


@dataclass(frozen=True, slots=True)
class Product:
    """C [rows, groups, columns], the sum of one or more terms.

    The groups of one column are computed together, so that an epilogue has them at hand: the four gates of an LSTM
    of 128 units are 4 groups of 128 columns. A plain product has one group. Terms that add to other groups are products
    of their own, side by side: two terms add to the same groups or to none in common, and every group has a term.
    """

    rows: int
    columns: int
    terms: tuple[Term, ...]
    groups: int = 1

    def __post_init__(self) -> None:
        if min(self.rows, self.columns, self.groups) < 1 or not self.terms:
            raise IrError(f"{self} has an empty result or no term; drop the product or give each extent 1 or more")
        if any(term.depth < 0 for term in self.terms):
            raise IrError(f"{self} sums over a negative depth; give 0 or more")
        spans = {self.span(term) for term in self.terms}
        covered = sorted(group for first, count in spans for group in range(first, first + count))
        if covered != list(range(self.groups)):
            raise IrError(f"{self} has terms for the groups {covered}; give each group terms of one and the same span")

    def span(self, term: Term) -> tuple[int, int]:
        """Return the first group that a term adds to, and how many it adds to."""
        return term.first, self.groups if term.groups is None else term.groups

    @property
    def widest(self) -> int:
        """Return the most groups that one term adds to: those are in registers together."""
        return max(self.span(term)[1] for term in self.terms)

    @property
    def flops(self) -> int:
        """Return the additions and multiplications."""
        return 2 * self.rows * self.columns * sum(term.depth * self.span(term)[1] for term in self.terms)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a product is cut.

    form:    "tiles" (vectors along the columns of B), "dots" (along k, for B as [columns, depth]), or "loops" (one
             element after the other: strides that no vector follows).
    reason:  why this form, in words, with what the target has to say.
    rows:    (how many, rows of each) of the row tiles, in order; panel: columns of a full panel, of each group.
    """

    form: str
    reason: str
    target: Target
    rows: tuple[tuple[int, int], ...]
    panel: int


def plan(product: Product, target: Target | None = None, panel: int | None = None) -> Plan:
    """Return the plan of a product for a target (default: this machine).

    panel: the columns of a full panel where they are given: of weights that were packed for another product.
    """
    chosen = host_target() if target is None else target
    if panel is not None and (panel < 1 or panel % chosen.width):
        raise IrError(f"a panel of {panel} columns is no multiple of {chosen.width} lanes; give one that is")
    form, reason = _form(product)
    reason = f"{reason}; {chosen.note}" if chosen.note else reason
    if form == "loops":
        return Plan(form, reason, chosen, ((1, product.rows),), product.columns)
    if form == "dots":
        rows, columns = _cells(product, chosen)
    else:
        rows, columns = _tile(product, chosen, panel)
    return Plan(form, reason, chosen, split(product.rows, rows), columns)


def _form(product: Product) -> tuple[str, str]:
    if all(term.b is None or term.b[2] == 1 for term in product.terms):
        packed = any(term.b is None for term in product.terms)
        return "tiles", f"the columns of B are adjacent{' in packed panels' if packed else ''}"
    if all(term.b is not None and term.b[0] == 1 and term.a[1] == 1 for term in product.terms):
        return "dots", "A and B both lie along k"
    return "loops", "no axis of B is adjacent in every term (pack B once to have vectors)"


def split(extent: int, most: int) -> tuple[tuple[int, int], ...]:
    """Return (how many, size) of the pieces of an extent: as few as fit `most`, as equal as can be, large ones first.

    split(32, 6) is ((2, 6), (4, 5)).
    """
    pieces = -(-extent // most)
    size, larger = divmod(extent, pieces)
    return tuple((count, height) for count, height in ((larger, size + 1), (pieces - larger, size)) if count)


def _cells(product: Product, target: Target) -> tuple[int, int]:
    """Return rows and columns (of each group) of a tile of dot products: a third of the registers holds factors."""
    rows = min(product.rows, 4, max(1, target.sums // product.widest))
    most = target.sums * 2 // 3
    across = min(most, max(8, 4 * product.widest)) if rows == 1 else most // rows
    columns = min(max(1, across // product.widest), product.columns)
    # a power of 2, so that the sums of a row's vectors are folded together
    return rows, 1 << columns.bit_length() - 1


def _tile(product: Product, target: Target, panel: int | None) -> tuple[int, int]:
    """Return rows and columns (of each group) of the tile for which a product takes the fewest cycles."""
    widest = min(max(1, target.sums // product.widest), -(-product.columns // target.width))
    if product.rows == 1 and all(term.b is None for term in product.terms):
        # Packed, narrow panels are read as fast as wide ones (in place, a narrow piece of each long row is not). One
        # that fits the first-level cache is still there when it is read next, if panels are taken there and back.
        deepest = max(term.depth for term in product.terms)
        widest = min(
            widest,
            max(
                1 if product.widest > 1 else 2,
                HALF_OF_FIRST_CACHE // (4 * target.width * product.widest * max(deepest, 1)),
            ),
        )
    wanted = range(1, widest + 1) if panel is None else [panel // target.width]
    found = []
    for vectors in wanted:
        most = max(1, target.sums // (vectors * product.widest))
        for rows in range(1, min(product.rows, most) + 1):
            found.append((_cycles(product, target, rows, vectors), -rows, vectors))
    _, rows, vectors = min(found)
    return -rows, vectors * target.width


def _cycles(product: Product, target: Target, rows: int, vectors: int) -> float:
    """Return an estimate of the cycles that one step of k takes over the whole product.

    A vector multiply-add takes one cycle. Loading a vector takes one and a half, two where every one comes from the
    second-level cache; two scalars take one. Loads hide behind arithmetic but for a tenth; a round takes one more.
    """
    total = 0.0
    full, rest = divmod(product.columns, vectors * target.width)
    for count, across in ((full, vectors), (1 if rest else 0, -(-rest // target.width))):
        for tiles, height in split(product.rows, rows):
            wide = across * product.widest
            load = wide * (2.0 if product.rows == height else 1.5) + height / 2
            total += count * tiles * (max(height * wide, load) + 0.1 * load + 1)
    return total
