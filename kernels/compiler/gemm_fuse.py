"""A pointwise region applied to a matrix product while each tile of it is hot: the product never goes to memory.

The region reads the product as `groups` blocks of columns (the gates of a recurrent cell), all of one row and column at
each point: they become the groups of one tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kernels.compiler.gemm import Plan, Product, Term
from kernels.compiler.gemm_print import Epilogue, Place, Point, print_product
from kernels.compiler.ir import Access, Region
from kernels.compiler.passes import drop_unit_axes, remove_dead_values, remove_repeated_values
from kernels.compiler.print_points import store_line, value_line
from kernels.compiler.source import Source, roots


@dataclass(frozen=True, slots=True)
class Read:
    """A product of one group, and how a region reads it.

    buffer: the region's buffer in which it lies, `row_stride` elements a row; begin: its element at which that begins.
    """

    product: Product
    buffer: int
    row_stride: int
    begin: int = 0


@dataclass(frozen=True, slots=True)
class Fused:
    """A product with its columns in groups, the region (simplified), and the group that each load of it reads."""

    product: Product
    region: Region
    groups: dict[int, int]
    """Position of a load among the region's values -> group."""


def fuse(product: Product, region: Region, buffer: int, row_stride: int) -> Fused | str:
    """Return a product of one group and the region that reads it as one, or in one line why they cannot be.

    buffer: the region's buffer in which the product lies, from its first element on, `row_stride` elements a row.
    The caller makes sure that nothing else reads the product, and that no store of the region touches what the product
    reads: tiles are computed after others have been stored.
    """
    return fuse_reads((Read(product, buffer, row_stride),), region)


def fuse_reads(reads: Sequence[Read], region: Region) -> Fused | str:
    """Return the same for several products that one region reads: side by side, groups after groups."""
    if region.reduced or any(read.product.groups != 1 for read in reads):
        return "the region reduces, or the product has groups already"
    rows = reads[0].product.rows
    region = drop_unit_axes(remove_dead_values(remove_repeated_values(region)))
    if len(region.domain) == 1:
        region = _in_rows(region, rows)
    terms: list[Term] = []
    groups: dict[int, int] = {}
    first = 0
    for read in reads:
        found = _groups(read, region, rows)
        if isinstance(found, str):
            return found
        count = read.product.columns // region.domain[1]
        groups |= {position: first + group for position, group in found.items()}
        span = (0, None) if len(reads) == 1 else (first, count)
        terms += (replace(grouped(t, region.domain[1]), first=span[0], groups=span[1]) for t in read.product.terms)
        first += count
    return Fused(Product(rows, region.domain[1], tuple(terms), first), region, groups)


def _groups(read: Read, region: Region, rows: int) -> dict[int, int] | str:
    """Return the group of the product that each load of it reads, or why they are not in its order."""
    product, same = read.product, roots(region)
    shape = region.domain if len(region.domain) == 2 else (0, 1)
    if not shape[0] == product.rows == rows or product.columns % shape[1]:
        return f"the region's domain {region.domain} is not the product's {product.rows} rows and a part of its columns"
    if any(same[store.access.buffer] == read.buffer for store in region.stores):
        return "the region stores where the product lies"
    columns, groups = region.domain[1], {}
    for position, value in enumerate(region.values):
        if value.access is not None and same[value.access.buffer] == read.buffer:
            group, rest = divmod(read.begin + value.access.offset, columns)
            along_rows, along_columns = value.access.strides
            ordered = (rows == 1 or along_rows == read.row_stride) and (columns == 1 or along_columns == 1)
            if rest or not ordered or value.dtype != "float32":
                return f"value {position} of the region reads the product in another order than rows and columns"
            groups[position] = group
    if not groups or max(groups.values()) * columns >= product.columns:
        return "the region does not read the product, or reads behind it"
    return groups


def grouped(term: Term, columns: int) -> Term:
    """Return a term whose columns are blocks of `columns`: unpacked, a block is `columns` column strides behind."""
    return term if term.b is None else replace(term, b=(term.b[0], columns * term.b[2], term.b[2]))


def print_fused(
    source: Source,
    name: str,
    fused: Fused,
    chosen: Plan,
    operands: Sequence[tuple[Place, Place]],
    scope: int,
    reverse: str = "",
    share: tuple[str, str] | None = None,
) -> tuple[str, ...]:
    """Print a fused product; return the definitions for the module's top. `chosen` is the plan of fused.product.

    The addresses of the region's buffers are in variables b0, b1, … (the product's own is not used); scope: of the
    stack that a tile goes through, unlike those of the buffers. See print_product for the rest.
    """
    region = fused.region

    def body(inner: Source, point: Point) -> None:
        indices = (point.row, point.column)
        for position in range(len(region.values)):
            group = fused.groups.get(position)
            inner.line(value_line(region, position, indices) if group is None else f"v{position} = {point.sums[group]}")
        for position in range(len(region.stores)):
            inner.line(store_line(region, position, indices))

    return print_product(source, name, fused.product, chosen, operands, Epilogue(body, scope), share, reverse)


def _in_rows(region: Region, rows: int) -> Region:
    """Return a region over one axis as one over rows and columns; as it is where that cannot be said."""
    extent = region.domain[0]
    if extent % rows or (rows > 1 and any(value.axis is not None for value in region.values)):
        return region
    columns = extent // rows

    def split(access: Access) -> Access:
        return replace(access, strides=(columns * access.strides[0], access.strides[0]))

    values = tuple(
        replace(
            value,
            access=None if value.access is None else split(value.access),
            axis=None if value.axis is None else 1,
        )
        for value in region.values
    )
    stores = tuple(replace(store, access=split(store.access)) for store in region.stores)
    return replace(region, domain=(rows, columns), values=values, stores=stores)
