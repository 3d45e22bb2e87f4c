"""The body of a kernel that walks row after row, the reduced axes innermost."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.compiler import accumulate
from kernels.compiler.ir import FLOATING, ITEM_BYTES, REDUCTIONS, Access
from kernels.compiler.levels import once_a_row
from kernels.compiler.nest import Nest, Pass
from kernels.compiler.print_points import axis_names, loop, shared_loop, store_line, value_line
from kernels.compiler.source import Source, position_text, scope_of_kept

BLOCK = 2048
"""The most elements that one float32 sum adds up before it goes into a float64 total."""


def print_rows(source: Source, loops: Nest, shared: bool) -> None:
    """Print a region with reductions: for each row, the passes over it."""
    region = loops.region
    first = len(region.domain) - region.reduced
    names = axis_names(region)
    kept = tuple(value for walk in loops.passes for value in walk.kept)
    for value in kept:
        size = _points(region.domain[first:]) * ITEM_BYTES[region.values[value].dtype]
        source.line(f"k{value} = stack({size})  # v{value} of one row")

    def body(depth: int) -> None:
        for position, level in enumerate(loops.levels):
            if level.row and level.ready == 0 and max(level.axes, default=-1) + 1 == depth:
                source.line(value_line(region, position, names))
        if depth == first:
            for number, walk in enumerate(loops.passes):
                _PassPrinter(source, loops, walk, number, kept).print()
            for position, store in enumerate(region.stores):
                if once_a_row(region, loops.levels, store):
                    source.line(store_line(region, position, names))

    if shared:
        shared_loop(source, names[:first], region.outer, body)
    else:
        loop(source, names[:first], region.outer, body)


@dataclass(frozen=True, slots=True)
class _PassPrinter:
    """Prints one pass over a row, and the row-level values that follow from it."""

    source: Source
    loops: Nest
    walk: Pass
    number: int
    kept: tuple[int, ...]

    def print(self) -> None:
        """Print the start of each reduction, the loops, and what follows."""
        region = self.loops.region
        partial = self._partial()
        for k in self.walk.reductions:
            value = region.values[k]
            self.source.line(
                f"t{k} = float64(0.0)" if k in partial else f"v{k} = {accumulate.start(value.op, value.dtype)}"
            )
        self._walk(0, partial)
        for k in partial:
            self.source.line(f"v{k} = {region.values[k].dtype}(t{k})")
        for position, level in enumerate(self.loops.levels):
            if level.row and level.ready == self.number + 1 and region.values[position].op not in REDUCTIONS:
                self.source.line(value_line(region, position, axis_names(region)))

    @property
    def _extents(self) -> tuple[int, ...]:
        region = self.loops.region
        return region.domain[len(region.domain) - region.reduced :]

    def _partial(self) -> tuple[int, ...]:
        """Return the sums that are added up in blocks: long ones, and those over several axes."""
        if len(self._extents) == 1 and self._extents[0] <= BLOCK:
            return ()
        values = self.loops.region.values
        return tuple(k for k in self.walk.reductions if values[k].op == "reduce_sum" and values[k].dtype in FLOATING)

    def _walk(self, depth: int, partial: tuple[int, ...]) -> None:
        """Print what stands at `depth` of the reduced loops, and the loops inside it."""
        self._values(depth)
        if depth == len(self._extents):
            self._point(partial)
            return
        region = self.loops.region
        axis, extent = len(region.domain) - region.reduced + depth, self._extents[depth]
        if depth < len(self._extents) - 1:
            with self.source.block(f"for i{axis} in range({extent}):"):
                self._walk(depth + 1, partial)
        elif partial and extent > BLOCK:
            with self.source.block(f"for block in range(0, {extent}, {BLOCK}):"):
                self._innermost(f"for i{axis} in range(block, min(block + {BLOCK}, {extent})):", partial)
        else:
            self._innermost(f"for i{axis} in range({extent}):", partial)

    def _innermost(self, header: str, partial: tuple[int, ...]) -> None:
        for k in partial:
            value = self.loops.region.values[k]
            self.source.line(f"p{k} = {accumulate.start(value.op, value.dtype)}")
        with self.source.block(header):
            self._walk(len(self._extents), partial)
        for k in partial:
            self.source.line(f"t{k} += float64(p{k})")

    def _values(self, depth: int) -> None:
        """Print the pass's values that stand at `depth`: those of earlier passes are read where they were kept."""
        region, levels = self.loops.region, self.loops.levels
        first = len(region.domain) - region.reduced
        for position in self.walk.values:
            if self._available(position):
                if depth == len(self._extents):
                    address, place, scope = self._place(position)
                    dtype = region.values[position].dtype
                    self.source.line(f"v{position} = load_{dtype}({address}, {place}, {scope})")
            elif max(levels[position].axes) - first + 1 == depth:
                self.source.line(value_line(region, position, axis_names(region)))

    def _available(self, position: int) -> bool:
        return position in self.kept and position not in self.walk.kept

    def _place(self, position: int) -> tuple[str, str, int]:
        """Return where a kept value lies: address, element, scope."""
        region = self.loops.region
        first = len(region.domain) - region.reduced
        strides = tuple(_points(region.domain[axis + 1 :]) for axis in range(first, len(region.domain)))
        place = position_text(Access(0, 0, strides), axis_names(region)[first:])
        return f"k{position}", place, scope_of_kept(region, self.kept.index(position))

    def _point(self, partial: tuple[int, ...]) -> None:
        region = self.loops.region
        for position in self.walk.kept:
            address, place, scope = self._place(position)
            dtype = region.values[position].dtype
            self.source.line(f"store_{dtype}({address}, {place}, v{position}, {scope})")
        for k in self.walk.reductions:
            value = region.values[k]
            total = f"p{k}" if k in partial else f"v{k}"
            taken = accumulate.step(value.op, value.dtype, total, f"v{value.operands[0]}")
            self.source.line(f"{total} = {taken}")
        for position in self.walk.stores:
            self.source.line(store_line(region, position, axis_names(region)))


def _points(extents: tuple[int, ...]) -> int:
    points = 1
    for extent in extents:
        points *= extent
    return points
