"""The body of a kernel that reduces along far strides: tiles of neighbouring columns, walked innermost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kernels.compiler import accumulate
from kernels.compiler.ir import ITEM_BYTES, REDUCTIONS, Region
from kernels.compiler.levels import once_a_row
from kernels.compiler.nest import Nest, Pass
from kernels.compiler.print_points import axis_names, loop, shared_loop, store_line, value_line
from kernels.compiler.source import Source, scope_of_kept

TILE = 256
"""Columns of one tile: their accumulators stay in the first-level cache."""

_LEAVES = ("load", "constant", "index")


def print_columns(source: Source, loops: Nest, shared: bool) -> None:
    """Print a region with reductions along far strides: row-level values are short arrays, one item a column."""
    printer = _ColumnPrinter(source, loops)
    printer.open()
    region = loops.region
    first = len(region.domain) - region.reduced
    names = [*axis_names(region)[: first - 1], "tile"]
    extents = [*region.domain[: first - 1], tiles(region)]

    def body(depth: int) -> None:
        if depth == first:
            printer.print_tile()

    (shared_loop if shared else loop)(source, names, extents, body)


def tiles(region: Region) -> int:
    """Return how many tiles the columns divide into."""
    return -(-region.domain[len(region.domain) - region.reduced - 1] // TILE)


@dataclass(frozen=True, slots=True)
class _ColumnPrinter:
    source: Source
    loops: Nest

    def open(self) -> None:
        """Print the arrays of the row-level values."""
        for position in self._arrays():
            self.source.line(f"a{position} = stack({TILE * ITEM_BYTES[self._array_dtype(position)]})")

    def print_tile(self) -> None:
        """Print all passes over one tile."""
        region = self.loops.region
        column = len(region.domain) - region.reduced - 1
        self.source.line(f"start = {TILE} * tile")
        self.source.line(f"stop = min(start + {TILE}, {region.domain[column]})")
        self._row_values(0)
        for number, walk in enumerate(self.loops.passes):
            self._pass(walk)
            self._row_values(number + 1)
        self._row_stores()

    def _columns(self) -> str:
        region = self.loops.region
        return f"for i{len(region.domain) - region.reduced - 1} in range(start, stop):"

    def _arrays(self) -> list[int]:
        values = self.loops.region.values
        return [k for k, level in enumerate(self.loops.levels) if level.row and values[k].op not in _LEAVES]

    def _array_dtype(self, position: int) -> str:
        """Return the dtype of a row-level value's array: float32 sums are added up in float64."""
        value = self.loops.region.values[position]
        return "float64" if value.op == "reduce_sum" and value.dtype == "float32" else value.dtype

    def _place(self, position: int) -> tuple[str, str, int]:
        region = self.loops.region
        index = f"i{len(region.domain) - region.reduced - 1} - start"
        return f"a{position}", index, scope_of_kept(region, self._arrays().index(position))

    def _read(self, position: int) -> None:
        """Print a row-level value where it is used: leaves afresh, the others from their arrays."""
        region = self.loops.region
        value = region.values[position]
        if value.op in _LEAVES:
            self.source.line(value_line(region, position, axis_names(region)))
            return
        address, index, scope = self._place(position)
        stored = self._array_dtype(position)
        text = f"load_{stored}({address}, {index}, {scope})"
        self.source.line(f"v{position} = " + (text if stored == value.dtype else f"{value.dtype}({text})"))

    def _write(self, position: int, text: str) -> None:
        address, index, scope = self._place(position)
        self.source.line(f"store_{self._array_dtype(position)}({address}, {index}, {text}, {scope})")

    def _row_values(self, ready: int) -> None:
        """Print the row-level values that can be computed once `ready` passes have ended."""
        region = self.loops.region
        made = [
            k for k in self._arrays() if self.loops.levels[k].ready == ready and region.values[k].op not in REDUCTIONS
        ]
        if not made:
            return
        with self.source.block(self._columns()):
            for position in self._operands(made, made):
                self._read(position)
            for position in made:
                self.source.line(value_line(region, position, axis_names(region)))
                self._write(position, f"v{position}")

    def _row_stores(self) -> None:
        region = self.loops.region
        stores = [k for k, store in enumerate(region.stores) if once_a_row(region, self.loops.levels, store)]
        if not stores:
            return
        with self.source.block(self._columns()):
            for position in sorted({region.stores[k].value for k in stores}):
                self._read(position)
            for k in stores:
                self.source.line(store_line(region, k, axis_names(region)))

    def _operands(self, users: Iterable[int], made: Iterable[int]) -> list[int]:
        """Return the row-level values that the users read and that are not made on the spot."""
        operands = {k for user in users for k in self.loops.region.values[user].operands}
        return sorted(k for k in operands - set(made) if self.loops.levels[k].row)

    def _pass(self, walk: Pass) -> None:
        region = self.loops.region
        first = len(region.domain) - region.reduced
        if walk.reductions:
            with self.source.block(self._columns()):
                for k in walk.reductions:
                    self._write(k, accumulate.start(region.values[k].op, self._array_dtype(k)))
        names, extents = axis_names(region)[first:], region.domain[first:]

        def body(depth: int) -> None:
            if depth == len(extents):
                with self.source.block(self._columns()):
                    self._point(walk)

        loop(self.source, names, extents, body)

    def _point(self, walk: Pass) -> None:
        region = self.loops.region
        stored = [region.stores[k].value for k in walk.stores]
        row_level = set(self._operands([*walk.values, *walk.reductions], ()))
        row_level.update(k for k in stored if self.loops.levels[k].row)
        for position in sorted(row_level):
            self._read(position)
        for position in walk.values:
            self.source.line(value_line(region, position, axis_names(region)))
        for k in walk.reductions:
            dtype = self._array_dtype(k)
            address, index, scope = self._place(k)
            total = f"load_{dtype}({address}, {index}, {scope})"
            operand = f"v{region.values[k].operands[0]}"
            taken = operand if dtype == region.values[k].dtype else f"{dtype}({operand})"
            self._write(k, accumulate.step(region.values[k].op, dtype, total, taken))
        for k in walk.stores:
            self.source.line(store_line(region, k, axis_names(region)))
