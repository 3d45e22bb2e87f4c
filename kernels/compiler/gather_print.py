"""GatherKernel -> the Python source of its Numba kernel."""

from __future__ import annotations

from kernels.compiler import intrinsics, prelude
from kernels.compiler.gather_ir import GatherKernel
from kernels.compiler.ir import Access
from kernels.compiler.print_numba import PACKAGE, Printed, import_line, signature
from kernels.compiler.print_points import loop
from kernels.compiler.source import Source, position_text

OUT_OF_RANGE = "index out of range in self"
"""What PyTorch says of an index that is no row of the table."""

_HEADER = '''"""Gather {key}: rows of {rows} x {columns} {dtype} by {points} x {index_dtype}."""

import math

import numba
{imports}


'''
_OPTIONS = 'cache=True, nogil=True, error_model="numpy", boundscheck=False'


def print_gather(kernel: GatherKernel, name: str, prefix: str = PACKAGE) -> Printed:
    """Return the source of a module with the function `name(address of index, of table, of out)`.

    The function raises IndexError at the first index that is no row of the table; nothing outside it is read.
    """
    source = Source()
    axes = [f"i{axis}" for axis in range(len(kernel.extents))]
    place = position_text(Access(0, 0, kernel.index), axes)
    target = position_text(Access(0, 0, kernel.out), [*axes, "j"])
    picked = position_text(Access(0, 0, kernel.table), ["row", "j"])

    def body(depth: int) -> None:
        if depth < len(axes):
            return
        source.line(f"row = int64(load_{kernel.index_dtype}(index, {place}, 0))")
        with source.block(f"if row < 0 or row >= {kernel.rows}:"):
            source.line(f'raise IndexError("{OUT_OF_RANGE}")')
        with source.block(f"for j in range({kernel.columns}):"):
            source.line(f"store_{kernel.dtype}(out, {target}, load_{kernel.dtype}(table, {picked}, 1), 2)")

    source.line(f'@numba.njit("void({signature(3)})", {_OPTIONS})')
    with source.block(f"def {name}(index, table, out):"):
        loop(source, axes, kernel.extents, body)
        source.line("return")
    text = source.text()
    header = _HEADER.format(
        key=kernel.key(),
        rows=kernel.rows,
        columns=kernel.columns,
        dtype=kernel.dtype,
        points=kernel.points,
        index_dtype=kernel.index_dtype,
        imports="\n".join(import_line(module, prefix, text) for module in (intrinsics, prelude)),
    )
    return Printed(header + text, 0)
