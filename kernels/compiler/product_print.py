"""ProductKernel -> the Python source of its Numba kernel."""

from __future__ import annotations

from collections.abc import Sequence

from kernels.compiler import gemm_tile, intrinsics, prelude, product_dots
from kernels.compiler.gemm import plan
from kernels.compiler.gemm_fuse import print_fused
from kernels.compiler.gemm_print import Into, Place, print_product
from kernels.compiler.print_numba import PACKAGE, Printed, import_line, parallel_source, signature
from kernels.compiler.product_deep import is_deep, print_deep
from kernels.compiler.product_ir import ProductKernel
from kernels.compiler.product_plan import plan_dots
from kernels.compiler.product_print_dots import DotsPrinter
from kernels.compiler.source import Source, op_list

PARALLEL_FLOPS = 4_000_000
"""Of a product that is worth sharing out to threads: some 40 us of one."""

_HEADER = '''"""{title}

{ops}
"""

import math

import numba
{imports}

'''
_OPTIONS = 'cache=True, nogil=True, error_model="numpy", boundscheck=False'


def print_product_kernel(kernel: ProductKernel, name: str, prefix: str = PACKAGE, alone: bool = False) -> Printed:
    """Return the source of a module with the function `name(address of each buffer, …)`, and how it is shared out.

    prefix, alone: as in print_numba.
    """
    source, body = Source(), Source()
    parameters = ["left", "right", *(f"b{k}" for k in range(len(kernel.region.buffers)) if k != kernel.sums)]
    items = 0 if alone else _items(kernel)
    definitions: Sequence[str]
    if kernel.along_depth:
        definitions = DotsPrinter(body, kernel, plan_dots(kernel), items > 0).print()
    else:
        definitions = _print_tiles(body, kernel)
    for line in definitions:
        source.line(line)
    source.line("")
    source.line("")
    arguments = [*parameters, *(["begin", "end"] if items else [])]
    source.line(f'@numba.njit("void({signature(len(arguments))})", {_OPTIONS})')
    with source.block(f"def {name}{'_range' if items else ''}({', '.join(arguments)}):"):
        for line in body.lines:
            source.line(line)
        source.line("return")
    text = source.text().lstrip("\n") + (parallel_source(name, parameters, items) if items else "")
    return Printed(_header(kernel, prefix, text) + text, items)


def _items(kernel: ProductKernel) -> int:
    """Return how many shares the work divides into; 0 if it is one piece."""
    if kernel.flops < PARALLEL_FLOPS or not kernel.along_depth:
        return 0
    count = plan_dots(kernel).strips(kernel.fused.product.columns)
    return count if count > 1 else 0


def _print_tiles(source: Source, kernel: ProductKernel) -> list[str]:
    """Print a product whose right factor has adjacent columns; return the lines for the module's top."""
    scope, fused, store = len(kernel.region.buffers), kernel.fused, kernel.copied
    operands = [(Place("left", scope), Place("right", scope + 1))]
    chosen = plan(fused.product)
    if store is None:
        return [line.rstrip("\n") for line in print_fused(source, "g", fused, chosen, operands, scope + 2)]
    place = Place(f"b{store.access.buffer} + {4 * store.access.offset}", store.access.buffer)
    to = Into(place, (store.access.strides[0], 0, 1))
    if is_deep(fused.product, chosen):
        return [line.rstrip("\n") for line in print_deep(source, fused.product, chosen, operands[0], to)]
    return [line.rstrip("\n") for line in print_product(source, "g", fused.product, chosen, operands, to)]


def _header(kernel: ProductKernel, prefix: str, text: str) -> str:
    product = f"left [{kernel.rows}, {kernel.depth}] @ right [{kernel.depth}, {kernel.columns}] is b{kernel.sums} of"
    modules = [intrinsics, prelude]
    tiles = {gemm_tile: ("gemm_tile(", "gemm_dots("), product_dots: ("product_dots(",)}
    modules += [module for module, words in tiles.items() if any(word in text for word in words)]
    imports = "\n".join(import_line(module, prefix, text) for module in modules)
    ops = "\n".join((product, *op_list(kernel.region)))
    return _HEADER.format(title=f"Product {kernel.key()}.", ops=ops, imports=imports)
