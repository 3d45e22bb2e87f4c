"""The text of a matrix product inside a loop: one function of three addresses, inlined where it is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kernels.compiler import gemm
from kernels.compiler.gemm_pack import Panels, panels
from kernels.compiler.gemm_print import Into, Place
from kernels.compiler.gemm_print import print_product as print_tiles
from kernels.compiler.loop_ir import Pack, Product
from kernels.compiler.source import Source

INLINE = '@numba.njit(forceinline=True, error_model="numpy", boundscheck=False)'

_FEWEST_ROWS = 16


def packable(product: Product) -> bool:
    """Return whether right factors can be packed into panels: those of the tiles, which are for float32."""
    return product.dtype == "float32"


def worth_packing(product: Product, trips: int) -> bool:
    """Return whether right factors are read so often that putting them in panels first costs nearly nothing.

    One row reads a factor as fast where it is: as fast as the cache gives it.
    """
    readable = all(1 in term.right_strides for term in product.terms)
    return packable(product) and trips * product.rows >= _FEWEST_ROWS and (product.rows > 1 or not readable)


def packed_bytes(product: Product, term: int) -> int:
    """Return the bytes that the packed right factor of a term takes."""
    return 4 * packed_layout(product, term).elements


def print_product(source: Source, name: str, product: Product, scopes: Sequence[int]) -> None:
    """Print `name(left0, right0, ..., out, trip)`, which computes the product from the addresses of its operands.

    scopes: the alias scope of each.
    """
    inner = Source()
    definitions: tuple[str, ...] = ()
    if product.dtype == "float32":
        shape = _shape(product)
        places = [
            (Place(f"left{k}", scopes[2 * k]), Place(f"right{k}", scopes[2 * k + 1])) for k in range(len(product.terms))
        ]
        to = Into(Place("out", scopes[-1]), (product.out_stride, 0, 1))
        # There and back on alternate trips: the end of the weights is still in the nearest cache when the next begins.
        definitions = print_tiles(inner, f"{name}_g", shape, gemm.plan(shape), places, to, reverse="trip & 1")
    else:
        _loops(inner, product, scopes)
    for line in definitions:
        source.line(line.rstrip("\n"))
    source.line(INLINE)
    parameters = [f"{side}{k}" for k in range(len(product.terms)) for side in ("left", "right")]
    with source.block(f"def {name}({', '.join(parameters)}, out, trip):"):
        for line in inner.lines:
            source.line(line)


def print_pack(source: Source, name: str, pack: Pack, scopes: Sequence[int]) -> None:
    """Print `name(right, out)`, which copies the right factor of a term into panels."""
    layout = packed_layout(pack.product, pack.term)
    source.line(INLINE)
    with source.block(f"def {name}(right, out):"):
        if layout.full:
            with source.block(f"for p in range({layout.full}):"):
                _panel(source, pack, "p", (layout.panel, layout.panel), scopes)
        if layout.last:
            wanted = layout.columns - layout.full * layout.panel
            _panel(source, pack, str(layout.full), (wanted, layout.last), scopes)


def _panel(source: Source, pack: Pack, number: str, columns: tuple[int, int], scopes: Sequence[int]) -> None:
    """Print the copy of one panel, of `columns` that there are and that are stored."""
    layout, term = packed_layout(pack.product, pack.term), pack.product.terms[pack.term]
    step = term.right_strides
    with source.block(f"for k in range({term.depth}):"):
        target = f"{number} * {layout.stride} + {columns[1]} * k + n"
        with source.block(f"for n in range({columns[0]}):"):
            place = f"{step[0]} * k + {step[1]} * ({number} * {layout.panel} + n)"
            source.line(f"store_float32(out, {target}, load_float32(right, {place}, {scopes[0]}), {scopes[1]})")
        if columns[1] > columns[0]:
            with source.block(f"for n in range({columns[0]}, {columns[1]}):"):
                source.line(f"store_float32(out, {target}, float32(0.0), {scopes[1]})")


def _shape(product: Product) -> gemm.Product:
    terms = []
    for term in product.terms:
        right = (term.right_strides[0], 0, term.right_strides[1])
        terms.append(gemm.Term(term.depth, term.left_strides, None if term.packed else right))
    return gemm.Product(product.rows, product.columns, tuple(terms))


def packed_layout(product: Product, term: int) -> Panels:
    """Return the panels of a term's right factor: those that all terms have when all are packed."""
    shape = _shape(replace(product, terms=tuple(replace(each, packed=True) for each in product.terms)))
    return panels(shape, gemm.plan(shape), term)


def _loops(source: Source, product: Product, scopes: Sequence[int]) -> None:
    """Row after row of the right factors, scaled and added to the result: for dtypes that have no tiles."""
    t, out = product.dtype, scopes[-1]
    with source.block(f"for m in range({product.rows}):"):
        place = f"{product.out_stride} * m + n"
        with source.block(f"for n in range({product.columns}):"):
            source.line(f"store_{t}(out, {place}, {t}(0.0), {out})")
        for number, term in enumerate(product.terms):
            left, right = term.left_strides, term.right_strides
            a, b = scopes[2 * number : 2 * number + 2]
            with source.block(f"for k in range({term.depth}):"):
                source.line(f"factor = load_{t}(left{number}, {left[0]} * m + {left[1]} * k, {a})")
                with source.block(f"for n in range({product.columns}):"):
                    value = f"load_{t}(right{number}, {right[0]} * k + {right[1]} * n, {b})"
                    source.line(f"store_{t}(out, {place}, load_{t}(out, {place}, {out}) + factor * {value}, {out})")
