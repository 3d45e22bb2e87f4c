"""QuantizedGatherKernel -> the Python source of its Numba kernel."""

from __future__ import annotations

from kernels.compiler import intrinsics, prelude
from kernels.compiler.gather_print import OUT_OF_RANGE
from kernels.compiler.ir import Access
from kernels.compiler.print_numba import PACKAGE, Printed, import_line, signature
from kernels.compiler.print_points import loop
from kernels.compiler.quantized_gather_ir import QuantizedGatherKernel
from kernels.compiler.source import Source, position_text
from kernels.quantized import cpu_memory

_HEADER = '''"""Gather {key}: {points} rows of {rows} x {columns}, {kind}."""

import math

import numba
{imports}


'''
_OPTIONS = 'cache=True, nogil=True, error_model="numpy", boundscheck=False'


def print_quantized_gather(kernel: QuantizedGatherKernel, name: str, prefix: str = PACKAGE) -> Printed:
    """Return the source of a module with the function `name(address of each buffer)`.

    The function raises IndexError at the first index that is no row of the table; nothing outside it is read.
    """
    source = Source()
    axes = [f"i{axis}" for axis in range(len(kernel.extents))]
    parameters = [buffer.name for buffer in kernel.buffers]

    def body(depth: int) -> None:
        if depth < len(axes):
            return
        place = position_text(Access(0, 0, kernel.index), axes)
        source.line(f"row = int64(load_{kernel.index_dtype}(index, {place}, 0))")
        with source.block(f"if row < 0 or row >= {kernel.rows}:"):
            source.line(f'raise IndexError("{OUT_OF_RANGE}")')
        _row(source, kernel, axes)

    source.line(f'@numba.njit("void({signature(len(parameters))})", {_OPTIONS})')
    with source.block(f"def {name}({', '.join(parameters)}):"):
        if kernel.kind == "codebook":
            source.line("book = stack(64)")
        loop(source, axes, kernel.extents, body)
        source.line("return")
    text = source.text()
    own = "kernels.quantized." if prefix == PACKAGE else prefix
    imports = [import_line(intrinsics, prefix, text), import_line(prelude, prefix, text)]
    header = _HEADER.format(
        key=kernel.key(),
        points=kernel.points,
        rows=kernel.rows,
        columns=kernel.columns,
        kind=kernel.kind,
        imports="\n".join((*imports, import_line(cpu_memory, own, text))),
    )
    return Printed(header + text, 0)


def _row(source: Source, kernel: QuantizedGatherKernel, axes: list[str]) -> None:
    """Print the lines that write one row."""
    target = position_text(Access(0, 0, kernel.out), [*axes, "j"])
    if kernel.kind == "codebook":
        _looked_up(source, kernel, target)
        return
    if kernel.kind == "int8":
        source.line("scale = load_float32(scales, row, 1)")
        value = "float32(load_signed_byte(taken, j)) * scale"
    else:
        value = "from_bits(int32(load_half(taken, j) << 16))"
    source.line(f"taken = codes + {kernel.width * (1 if kernel.kind == 'int8' else 2)} * row")
    with source.block(f"for j in range({kernel.columns}):"):
        source.line(f"store_float32(out, {target}, {value}, 2)")


def _looked_up(source: Source, kernel: QuantizedGatherKernel, target: str) -> None:
    """Print the lines that look the codes of a row up: their bits lie one behind the other, lowest first."""
    source.line(f"taken = codes + {kernel.width} * row")
    with source.block(f"for number in range({kernel.groups}):"):
        source.line(f"own = {f'{kernel.groups} * row + ' if kernel.books > 1 else ''}number")
        source.line("scale = load_float32(scales, own, 1)")
        with source.block(f"for code in range({1 << kernel.bits}):"):
            entry = f"load_signed_byte(tables, {1 << kernel.bits} * own + code)"
            source.line(f"store_float32(book, code, float32({entry}) * scale, 3)")
        first = f"{kernel.group} * number"
        with source.block(f"for j in range({first}, min(int64({kernel.columns}), {first} + {kernel.group})):"):
            source.line(f"low = {kernel.bits} * j >> 3")
            following = f"load_byte(taken, min(low + 1, int64({kernel.width - 1}))) << 8"
            source.line(f"pair = load_byte(taken, low) | {following}")
            code = f"pair >> ({kernel.bits} * j & 7) & {(1 << kernel.bits) - 1}"
            source.line(f"store_float32(out, {target}, load_float32(book, {code}, 3), 2)")
