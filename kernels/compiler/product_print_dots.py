"""A product whose factors both lie along the depth, as lines of a generated kernel, strip after strip of columns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kernels.compiler.gemm import split
from kernels.compiler.print_points import store_line, value_line
from kernels.compiler.product_ir import ProductKernel
from kernels.compiler.product_plan import DotsPlan
from kernels.compiler.source import Source


class DotsPrinter:
    """Prints the loops over blocks of rows, strips, panels and tiles, and the region of each strip.

    shared: only the strips from `begin` to `end` are computed, a thread's share.
    """

    def __init__(self, source: Source, kernel: ProductKernel, cut: DotsPlan, shared: bool) -> None:
        self.source, self.kernel, self.cut, self.shared = source, kernel, cut, shared
        self.fused = kernel.fused
        self.product = self.fused.product
        self.copied = kernel.copied
        self.scope = len(kernel.region.buffers)
        self.definitions: list[str] = []

    def print(self) -> list[str]:
        """Print the product; return the definitions for the module's top."""
        if self.copied is None:
            height = max(rows for _, rows in self.cut.blocks)
            strip = min(self.cut.strip, self.product.columns)
            self.source.line(f"sums = stack({4 * height * self.product.groups * strip})")
        base = 0
        for number, (count, height) in enumerate(self.cut.blocks):
            with self._repeated(f"m{number}", base, count, height) as first:
                self._block(first, height)
            base += count * height
        return self.definitions

    @contextmanager
    def _repeated(self, variable: str, base: int, count: int, step: int) -> Iterator[str]:
        """Print a loop over `count` pieces of `step` from `base` on; without a loop where there is one."""
        if count == 1:
            yield str(base)
            return
        with self.source.block(f"for {variable} in range({base}, {base + count * step}, {step}):"):
            yield variable

    def _block(self, first: str, height: int) -> None:
        full, rest = divmod(self.product.columns, self.cut.strip)
        if full and self.shared:
            with self.source.block(f"for strip in range(begin, min(end, {full})):"):
                self.source.line(f"n = {self.cut.strip} * strip")
                self._strip(first, height, "n", self.cut.strip)
        elif full:
            with self._repeated("n", 0, full, self.cut.strip) as column:
                self._strip(first, height, column, self.cut.strip)
        if rest and self.shared:
            with self.source.block(f"if begin <= {full} < end:"):
                self._strip(first, height, str(full * self.cut.strip), rest)
        elif rest:
            self._strip(first, height, str(full * self.cut.strip), rest)

    def _strip(self, row: str, height: int, column: str, width: int) -> None:
        for group in range(self.product.groups):
            full, rest = divmod(width, self.cut.columns)
            if full:
                with self._repeated("p", 0, full, self.cut.columns) as panel:
                    self._panel((row, height), (column, panel, group, width), self.cut.columns)
            if rest:
                self._panel((row, height), (column, str(full * self.cut.columns), group, width), rest)
        if self.copied is None:
            self._region(row, height, column, width)

    def _panel(self, rows: tuple[str, int], place: tuple[str, str, int, int], columns: int) -> None:
        """Print the tiles of a panel of columns. place: the strip's first column, the panel's in it, group, width."""
        column, panel, group, width = place
        row, height = rows
        stride = self.kernel.right_strides[1]
        begin = f"{4 * stride} * ({group * self.product.columns} + {column} + {panel})"
        self.source.line(f"panel = right + {begin}")
        base = 0
        for count, size in split(height, self.cut.rows):
            with self._repeated("r", base, count, size) as inner:
                name, ahead = self._tile(size, columns, height, width)
                left = f"left + {4 * self.kernel.left_strides[0]} * ({row} + {inner})"
                turn = f"{inner} // {size} * {ahead} % {columns}" if ahead < columns else "0"
                fetched = f"panel + {4 * stride} * ({columns} + {turn})"
                self.source.line(f"{name}({left}, panel, {self._target(row, inner, place)}, {fetched})")
            base += count * size

    def _target(self, row: str, inner: str, place: tuple[str, str, int, int]) -> str:
        column, panel, group, width = place
        if self.copied is None:
            return f"sums + 4 * ({self._sums_stride(width)} * {inner} + {group * width} + {panel})"
        access = self.copied.access
        at = f"{access.strides[0]} * ({row} + {inner}) + {column} + {panel} + {access.offset}"
        return f"b{access.buffer} + 4 * ({at})"

    def _sums_stride(self, width: int) -> int:
        return self.product.groups * width

    def _tile(self, rows: int, columns: int, height: int, width: int) -> tuple[str, int]:
        """Return the name of a tile's function, defined when it is first used, and how many columns it fetches."""
        tiles = -(-height // self.cut.rows)
        ahead = -(-columns // tiles)
        store = self.copied
        stride = self._sums_stride(width) if store is None else store.access.strides[0]
        scopes = (self.scope, self.scope + 1, self.scope + 2 if store is None else store.access.buffer)
        name = f"tile_{rows}x{columns}_{ahead}_{stride}"
        text = (
            f"{name} = product_dots(\n"
            f"    {rows}, {columns}, {self.kernel.depth}, a={self.kernel.left_strides[0]}, "
            f"b={self.kernel.right_strides[1]}, c={stride}, width={self.cut.target.width}, "
            f"fused={self.cut.target.fused}, ahead={ahead}, scopes={scopes},\n"
            ")"
        )
        if text not in self.definitions:
            self.definitions.append(text)
        return name, ahead

    def _region(self, row: str, height: int, column: str, width: int) -> None:
        """Print the region over the rows and columns of a strip."""
        region = self.fused.region
        with self.source.block(f"for i in range({height}):"):
            self.source.line(f"row = {row} + i")
            with self.source.block(f"for j in range({width}):"):
                self.source.line(f"column = {column} + j")
                for position in range(len(region.values)):
                    group = self.fused.groups.get(position)
                    if group is None:
                        self.source.line(value_line(region, position, ("row", "column")))
                    else:
                        place = f"{self._sums_stride(width)} * i + {group * width} + j"
                        self.source.line(f"v{position} = load_float32(sums, {place}, {self.scope + 2})")
                for position in range(len(region.stores)):
                    self.source.line(store_line(region, position, ("row", "column")))
