"""The text of a matrix product inside a loop: one function of three addresses, inlined where it is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kernels.compiler import gemm
from kernels.compiler.gemm_fuse import grouped
from kernels.compiler.gemm_pack import Panels, panels
from kernels.compiler.gemm_print import Into, Place
from kernels.compiler.gemm_print import print_product as print_tiles
from kernels.compiler.gemm_print_pack import print_pack as print_panels
from kernels.compiler.loop_ir import Pack, Product
from kernels.compiler.source import Source

INLINE = (
    "@numba.njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, "
    'error_model="numpy", boundscheck=False)'
)

_FEWEST_ROWS = 16
_SMALL_BYTES, _LARGE_BYTES = 96 << 10, 1 << 17


def packable(product: Product) -> bool:
    """Return whether right factors can be packed into panels: those of the tiles, which are for float32."""
    return product.dtype == "float32"


def worth_packing(product: Product, trips: int) -> bool:
    """Return whether right factors are read so often that putting them in panels first costs nearly nothing.

    One row reads a factor as fast where it is: as fast as the cache gives it.
    """
    readable = all(1 in term.right_strides for term in product.terms)
    return packable(product) and trips * product.rows >= _FEWEST_ROWS and (product.rows > 1 or not readable)


def worth_fusing(product: Product, trips: int) -> bool:
    """Return whether a product should be computed with the region that reads it, its right factors in panels.

    One row waits for the cache, and the region is computed meanwhile: where the factors are small enough for the
    nearest one to matter, in panels. Many rows wait for arithmetic: there only a product that would have to come back
    from the second-level cache is worth it.
    """
    if not packable(product) or trips * product.rows < _FEWEST_ROWS:
        return False
    if product.rows == 1:
        return 4 * product.columns * sum(term.depth for term in product.terms) <= _SMALL_BYTES
    return 4 * product.rows * product.columns >= _LARGE_BYTES


def packed_bytes(product: Product, term: int) -> int:
    """Return the bytes that the packed right factor of a term takes."""
    return 4 * packed_layout(product, term).elements


def print_product(
    source: Source, name: str, product: Product, scopes: Sequence[int], share: tuple[str, str] | None = None
) -> None:
    """Print `name(left0, right0, ..., out, trip)`, which computes the product from the addresses of its operands.

    scopes: the alias scope of each. share: two more parameters, the first and the end of the panels that it computes
    (of float64: of the rows).
    """
    inner = Source()
    definitions: tuple[str, ...] = ()
    if product.dtype == "float32":
        shape = plain_shape(product)
        places = [
            (Place(f"left{k}", scopes[2 * k]), Place(f"right{k}", scopes[2 * k + 1])) for k in range(len(product.terms))
        ]
        to = Into(Place("out", scopes[-1]), (product.out_stride, 0, 1))
        # There and back on alternate trips: the end of the weights is still in the nearest cache when the next begins.
        chosen = gemm.plan(shape, panel=product.panel)
        definitions = print_tiles(inner, f"{name}_g", shape, chosen, places, to, share, "trip & 1")
    else:
        _loops(inner, product, scopes, share)
    for line in definitions:
        source.line(line.rstrip("\n"))
    source.line(INLINE)
    parameters = [f"{side}{k}" for k in range(len(product.terms)) for side in ("left", "right")]
    with source.block(f"def {name}({', '.join([*parameters, 'out', 'trip', *(share or ())])}):"):
        for line in inner.lines:
            source.line(line)


def print_pack(source: Source, name: str, pack: Pack, scopes: Sequence[int]) -> None:
    """Print `name(right, out)`, which copies the right factor of a term into panels."""
    layout, term = packed_layout(pack.product, pack.term), pack.product.terms[pack.term]
    strides = (term.right_strides[0], layout.columns * term.right_strides[1], term.right_strides[1])
    source.line(INLINE)
    with source.block(f"def {name}(right, out):"):
        print_panels(source, "pack", layout, strides, Place("right", scopes[0]), Place("out", scopes[1]))


def plain_shape(product: Product) -> gemm.Product:
    """Return a product as its tiles see it, with all columns in one group."""
    terms = []
    for term in product.terms:
        right = (term.right_strides[0], 0, term.right_strides[1])
        terms.append(gemm.Term(term.depth, term.left_strides, None if term.packed else right))
    return gemm.Product(product.rows, product.columns, tuple(terms))


def packed_layout(product: Product, term: int) -> Panels:
    """Return the panels of a term's right factor: those that all terms have when all are packed."""
    shape = plain_shape(replace(product, terms=tuple(replace(each, packed=True) for each in product.terms)))
    columns = product.columns // product.groups
    terms = tuple(grouped(each, columns) for each in shape.terms)
    shape = replace(shape, columns=columns, groups=product.groups, terms=terms)
    return panels(shape, gemm.plan(shape, panel=product.panel), term)


def _loops(source: Source, product: Product, scopes: Sequence[int], share: tuple[str, str] | None) -> None:
    """Row after row of the right factors, scaled and added to the result: for dtypes that have no tiles."""
    t, out = product.dtype, scopes[-1]
    first, end = share or ("0", str(product.rows))
    with source.block(f"for m in range({first}, {end}):"):
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
