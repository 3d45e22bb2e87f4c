"""A fused statement of a loop as one product in tiles with its region as their epilogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kernels.compiler import gemm
from kernels.compiler.gemm_fuse import Fused as FusedTile
from kernels.compiler.gemm_fuse import Read, fuse_reads, print_fused
from kernels.compiler.gemm_print import Place
from kernels.compiler.ir import ITEM_BYTES
from kernels.compiler.loop_ir import Apply, Fused, Product, Window
from kernels.compiler.loop_product import plain_shape
from kernels.compiler.source import Source

ITEM = ITEM_BYTES["float32"]


def buffer_of(fused: Fused, product: Product) -> int | str:
    """Return the buffer of the region in which a product lies, or why there is none."""
    found = [k for k, window in enumerate(fused.apply.windows) if _element(product, window) is not None]
    if len(found) != 1:
        return f"the region has {len(found)} buffers in the memory of the product"
    return found[0]


def _element(product: Product, window: Window) -> int | None:
    """Return the element of a product at which a window begins, None if it is no window onto that product."""
    out = product.out
    begin, rest = divmod(window.offset - out.offset, ITEM)
    if replace(window, offset=out.offset) != out or out.value < 0 or rest:
        return None
    return begin if 0 <= begin < (product.rows - 1) * product.out_stride + product.columns else None


def join(products: Sequence[Product], apply: Apply) -> Fused | str:
    """Return one statement of products and the region that reads them, or in one line why they cannot be.

    Its products have groups and the panel that serves all of them once their right factors are packed.
    """
    tile = _tile(Fused(tuple(products), apply))
    if isinstance(tile, str):
        return tile
    packed = replace(tile.product, terms=tuple(replace(term, b=None) for term in tile.product.terms))
    panel, columns = gemm.plan(packed).panel, tile.product.columns
    return Fused(tuple(replace(each, groups=each.columns // columns, panel=panel) for each in products), apply)


def in_tiles(fused: Fused) -> FusedTile | str:
    """Return product and region as one, or in one line why they cannot be."""
    tile = _tile(fused)
    if isinstance(tile, str):
        return tile
    if any(product.groups * tile.product.columns != product.columns for product in fused.products):
        return f"the groups of the products are not blocks of {tile.product.columns} columns"
    if len({product.panel for product in fused.products}) > 1:
        return "the products have panels of different sizes"
    return tile


def _tile(fused: Fused) -> FusedTile | str:
    reads = []
    for product in fused.products:
        if product.dtype != "float32":
            return f"a product of {product.dtype} has no tiles"
        buffer = buffer_of(fused, product)
        if isinstance(buffer, str):
            return buffer
        begin = _element(product, fused.apply.windows[buffer]) or 0
        reads.append(Read(plain_shape(product), buffer, product.out_stride, begin))
    found = fuse_reads(reads, fused.apply.region)
    if not isinstance(found, str) and chosen_plan(fused, found).form == "loops":
        return "the factors have strides that no vector follows"
    return found


def panel_of(fused: Fused) -> int | None:
    """Return the columns of a full panel, where they are given."""
    return next((product.panel for product in fused.products if product.panel is not None), None)


def chosen_plan(fused: Fused, tile: FusedTile) -> gemm.Plan:
    """Return how a fused statement is cut."""
    return gemm.plan(tile.product, panel=panel_of(fused))


def print_fused_statement(
    source: Source,
    name: str,
    fused: Fused,
    tile: FusedTile,
    scopes: Sequence[int],
    share: tuple[str, str] | None = None,
) -> list[str]:
    """Print the body of the function of a fused statement; return the lines that belong before it.

    The parameters are left0, right0, … of all terms, b0, b1, … and trip. scopes: of each, and of the stack.
    share: texts of the first and the end of the panels that are computed, where not all are.
    """
    count = len(tile.product.terms)
    places = [(Place(f"left{k}", scopes[2 * k]), Place(f"right{k}", scopes[2 * k + 1])) for k in range(count)]
    chosen = chosen_plan(fused, tile)
    return list(print_fused(source, f"{name}_g", tile, chosen, places, scopes[-1], reverse="trip & 1", share=share))
