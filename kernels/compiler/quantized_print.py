"""ConvertKernel and QuantizedKernel -> the Python source of their Numba kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from kernels.compiler import intrinsics, prelude
from kernels.compiler.print_numba import PACKAGE, Printed, import_line, parallel_source, signature
from kernels.compiler.print_points import store_line, value_line
from kernels.compiler.quantized_ir import ConvertKernel, QuantizedKernel
from kernels.compiler.quantized_plan import ROW_FUNCTIONS, Cut, Sums, cut, sums_of
from kernels.compiler.source import Source, op_list
from kernels.quantized import cpu_codebook, cpu_features, cpu_lookup, cpu_quantise, cpu_tile
from kernels.quantized.cpu_lookup_weights import LOOKUP_BITS

QUANTIZED = "kernels.quantized."
PARALLEL_FLOPS = 4_000_000
"""Of a product that is worth sharing out to threads: some 10 us of one."""
_OPTIONS = 'cache=True, nogil=True, error_model="numpy", boundscheck=False'
_HEADER = '''"""{title}

{ops}
"""

import math

import numba
{imports}

'''


def print_convert(kernel: ConvertKernel, name: str, prefix: str = PACKAGE) -> Printed:
    """Return the source of a module with the function `name(address of the rows, of what they become)`."""
    source = Source()
    function = ROW_FUNCTIONS[kernel.form]
    size = kernel.row_bytes
    source.line(f"converted = {function}()")
    source.line("")
    source.line("")
    source.line(f'@numba.njit("void({signature(2)})", {_OPTIONS})')
    with source.block(f"def {name}(x, out):"):
        with source.block(f"for row in range({kernel.rows}):"):
            scale = f"out + {kernel.rows * size} + 4 * row" if kernel.form == "bytes" else "0"
            zero = f"out + {kernel.rows * (size + 4)} + 4 * row" if kernel.form == "bytes" else "0"
            source.line(
                f"converted(x + {4 * kernel.stride} * row, {kernel.columns}, out + {size} * row, {scale}, {zero}, 0)"
            )
        source.line("return")
    text = source.text()
    ops = f"{kernel.rows} rows of {kernel.columns} x float32 as {kernel.form}"
    return Printed(_header(f"Conversion {kernel.key()}.", (ops,), prefix, text) + text, 0)


def print_quantized(kernel: QuantizedKernel, name: str, prefix: str = PACKAGE) -> Printed:
    """Return the source of a module with the function `name(address of each buffer, …)`, and how it is shared out.

    prefix: what stands before the modules that it imports from, as in print_numba.
    """
    source, plan = Source(), cut(kernel)
    items = plan.panels if kernel.flops >= PARALLEL_FLOPS and plan.panels > 1 else 0
    weights = [buffer.name for buffer in kernel.buffers[1 : 1 + plan.arrays]]
    parameters = [
        "activations",
        *weights,
        *(f"b{k}" for k in range(len(kernel.region.buffers)) if k != kernel.sums),
    ]
    for line in plan.definitions:
        source.line(line)
    source.line("")
    source.line("")
    arguments = [*parameters, *(["begin", "end"] if items else [])]
    source.line(f'@numba.njit("void({signature(len(arguments))})", {_OPTIONS})')
    with source.block(f"def {name}{'_range' if items else ''}({', '.join(arguments)}):"):
        _Body(source, kernel, plan, ("begin", "end") if items else ("0", str(plan.panels))).print()
        source.line("return")
    text = source.text() + (parallel_source(name, parameters, items) if items else "")
    product = f"activations [{kernel.rows}, {kernel.depth}] @ {kernel.kind} weights [{kernel.columns}, {kernel.depth}]"
    ops = (f"{product}, transposed, is b{kernel.sums} of", *op_list(kernel.region), f"Kernel: {plan.kernel}.")
    return Printed(_header(f"Quantized product {kernel.key()}.", ops, prefix, text) + text, items)


def _header(title: str, ops: Sequence[str], prefix: str, text: str) -> str:
    imports = [_imported(intrinsics, prefix, text), _imported(prelude, prefix, text)]
    own = QUANTIZED if prefix == PACKAGE else prefix
    for module in (cpu_codebook, cpu_features, cpu_lookup, cpu_quantise, cpu_tile):
        line = _imported(module, own, text)
        imports += [line] if line.startswith("from") else []
    return _HEADER.format(title=title, ops="\n".join(ops), imports="\n".join(imports))


def _imported(module: ModuleType, prefix: str, text: str) -> str:
    return import_line(module, prefix, text)


@dataclass(frozen=True, slots=True)
class _Body:
    """Prints the loops: blocks of rows, panels, tiles of rows, and the region of each tile."""

    source: Source
    kernel: QuantizedKernel
    plan: Cut
    share: tuple[str, str]

    @property
    def scope(self) -> int:
        """Return the alias scope of the activations; behind it those of the weights, and of the stack."""
        return len(self.kernel.region.buffers)

    def print(self) -> None:
        """Print the body."""
        plan, source = self.plan, self.source
        source.line(f"totals = stack({4 * plan.tallest * cpu_tile.COLUMNS})")
        if plan.unpacked:
            source.line(f"unpacked = stack({cpu_tile.COLUMNS * self.kernel.row_bytes})")
        if self.kernel.group is not None or self.kernel.kind in LOOKUP_BITS:
            source.line(f"book = stack({cpu_lookup.GROUP_NUMBERS})")
        base = 0
        for number, (count, height) in enumerate(plan.blocks):
            if count == 1:
                self._panels(str(base), height)
            else:
                with source.block(f"for block{number} in range({base}, {base + count * height}, {height}):"):
                    self._panels(f"block{number}", height)
            base += count * height

    def _panels(self, first: str, height: int) -> None:
        source, plan = self.source, self.plan
        with source.block(f"for number in range({self.share[0]}, {self.share[1]}):"):
            source.line(f"panel = panels + {plan.panel_bytes} * number")
            source.line(f"following = panel + {plan.panel_bytes}")
            for line in plan.before:
                source.line(line)
            base, tile = 0, 0
            for count, rows in plan.tiles(height):
                if count == 1:
                    self._tile(f"({first} + {base})", str(tile), rows)
                else:
                    with source.block(f"for tile in range({count}):"):
                        source.line(f"m = {first} + {base} + {rows} * tile")
                        self._tile("m", f"(tile + {tile})", rows)
                base, tile = base + count * rows, tile + count

    def _tile(self, row: str, tile: str, rows: int) -> None:
        source, plan, size = self.source, self.plan, self.kernel.row_bytes
        place = f"activations + {size} * {row}"
        ahead = f"following + {plan.ahead_bytes} * ({tile} % {plan.ahead_tiles})"
        for line in plan.tile_lines:
            source.line(line.format(rows=rows, place=place, ahead=ahead))
        self._region(row, rows)

    def _region(self, first: str, rows: int) -> None:
        """Print the region over the rows and columns of a tile."""
        source, region, sums = self.source, self.kernel.fused.region, sums_of(self.kernel)
        width = cpu_tile.COLUMNS
        ragged = self.kernel.columns % width
        if ragged:
            source.line(f"width = min(int64({width}), {self.kernel.columns} - {width} * number)")
        with source.block(f"for i in range({rows}):"):
            source.line(f"row = {first} + i")
            for line in self._row_lines(sums):
                source.line(line)
            with source.block(f"for j in range({'width' if ragged else width}):"):
                source.line(f"column = {width} * number + j")
                for position in range(len(region.values)):
                    if position in self.kernel.fused.groups:
                        self._total(sums, position)
                    else:
                        source.line(value_line(region, position, ("row", "column")))
                for position in range(len(region.stores)):
                    source.line(store_line(region, position, ("row", "column")))

    def _row_lines(self, sums: Sums) -> list[str]:
        if not sums.zero:
            return []
        scales = f"activations + {self.kernel.rows * self.kernel.row_bytes}"
        zeros = f"activations + {self.kernel.rows * (self.kernel.row_bytes + 4)}"
        return [
            f"scale = load_float32({scales}, row, {self.scope})",
            f"zero = {sums.zero.format(zero=f'load_int32({zeros}, row, {self.scope})')}",
        ]

    def _total(self, sums: Sums, position: int) -> None:
        place = f"{cpu_tile.COLUMNS} * i + j"
        line = sums.value.format(
            total=f"load_{sums.dtype}(totals, {place}, {self.scope + 2})",
            weight_sum=f"load_{sums.dtype}(sums, column, {self.scope + 1})",
            weight_scale=f"load_float32(scales, column, {self.scope + 1})",
        )
        self.source.line(f"v{position} = {line}")
