"""A grouped or dense convolution as lines of a generated kernel: a panel of weights, then tiles of every row.

Weights are packed when they are used, a panel at a time: it stays in the second-level cache while the image is walked.
"""

from __future__ import annotations

from kernels.compiler.convolution_ir import ConvolutionKernel
from kernels.compiler.depthwise_print import runs
from kernels.compiler.gemm import split
from kernels.compiler.gemm_pack import Panels, rounded
from kernels.compiler.gemm_print import Place
from kernels.compiler.gemm_print_pack import print_pack
from kernels.compiler.gemm_target import Target
from kernels.compiler.source import Source

LARGEST_PANEL = 1 << 20
"""Bytes; a panel lies on the stack."""
_CHAIN = 512
"""Products that one float32 sum takes in before it is added to the result in memory, or those of one row of taps."""


class DensePrinter:
    """Prints the loops of one convolution. items: equal pieces that its work divides into."""

    def __init__(self, kernel: ConvolutionKernel, target: Target) -> None:
        self.kernel, self.target = kernel, target
        self.across = _vectors(kernel, target)
        self.panel = self.across * target.width
        self.panels = -(-kernel.results // self.panel)
        self.items = kernel.groups * self.panels
        self.most = max(1, target.sums // self.across)
        self.definitions: list[str] = []

    def print(self, source: Source, shares: tuple[str, str]) -> None:
        """Print the loop over the panels of all groups."""
        kernel = self.kernel
        widest = rounded(min(self.panel, kernel.results), self.target.width)
        source.line(f"panel = stack({4 * kernel.depth * widest})")
        full, rest = divmod(kernel.results, self.panel)
        with source.block(f"for item in range({shares[0]}, {shares[1]}):"):
            source.line(f"group = item // {self.panels}")
            source.line(f"result = {kernel.results} * group + item % {self.panels} * {self.panel}")
            if full and rest:
                with source.block(f"if item % {self.panels} < {full}:"):
                    self._panel(source, self.panel)
                with source.block("else:"):
                    self._panel(source, rest)
            else:
                self._panel(source, rest or self.panel)

    def _panel(self, source: Source, results: int) -> None:
        """Print what packs one panel, and the walk over the rows of the results."""
        kernel, rows, columns = self.kernel, self.kernel.rows, self.kernel.columns
        by_result, by_input, by_row, by_column = kernel.weight_strides
        width = rounded(results, self.target.width)
        natural = (by_input, by_row) == (rows.window * columns.window, columns.window) and by_column == 1
        weight = Place(f"(weight + {4 * by_result} * result)", 1)
        if natural:
            layout = Panels(kernel.depth, 1, results, width, self.target.width)
            print_pack(source, f"pack{results}", layout, (1, 0, by_result), weight, Place("panel", 3))
        else:
            self._pack(source, results, width)
        with (
            source.block(f"for image_number in range({kernel.batch}):"),
            source.block(f"for row in range({rows.results}):"),
        ):
            source.line(f"start = {rows.step} * row - {rows.padding}")
            source.line(f"first = max(0, ({rows.dilation - 1} - start) // {rows.dilation})")
            source.line(f"last = max(first, min({rows.window}, ({rows.extent - 1} - start) // {rows.dilation} + 1))")
            where = f"{kernel.out_strides[0]} * image_number + {kernel.out_strides[1]} * row + result"
            source.line(f"below = out + 4 * ({where})")
            chunk = max(1, _CHAIN // (kernel.inputs * columns.window))
            if chunk >= rows.window:
                source.line("tap, count = first, last - first")
                self._tiles(source, results, width)
            else:
                # Before the first tap, so that a row that meets none of the image is still written.
                source.line("tap = first")
                with source.block(f"for part in range({-(-rows.window // chunk)}):"):
                    source.line(f"count = min({chunk}, last - tap)")
                    self._tiles(source, results, width)
                    source.line("tap = tap + count")

    def _pack(self, source: Source, results: int, width: int) -> None:
        """Print the copy of weights in another order than that of a contiguous tensor."""
        kernel = self.kernel
        windows = (kernel.inputs, kernel.rows.window, kernel.columns.window)
        by_result, *strides = kernel.weight_strides
        names = ("tap_input", "tap_row", "tap_column")
        with (
            source.block(f"for {names[0]} in range({windows[0]}):"),
            source.block(f"for {names[1]} in range({windows[1]}):"),
            source.block(f"for {names[2]} in range({windows[2]}):"),
            source.block(f"for lane in range({results}):"),
        ):
            place = " + ".join(f"{step} * {name}" for step, name in zip(strides, names, strict=True))
            source.line(f"value = load_float32(weight, {by_result} * (result + lane) + {place}, 1)")
            number = f"({windows[1]} * tap_input + tap_row) * {windows[2]} + tap_column"
            source.line(f"store_float32(panel, {width} * ({number}) + lane, value, 3)")

    def _tiles(self, source: Source, results: int, width: int) -> None:
        """Print the tiles of one row, over `count` rows of taps from `tap` on."""
        kernel, columns = self.kernel, self.kernel.columns
        by_image, by_row, by_column = kernel.image_strides
        channel = f"{kernel.inputs} * group"
        where = f"{by_image} * image_number + {by_row} * (start + {kernel.rows.dilation} * tap) + {channel}"
        source.line(f"above = image + 4 * ({where} - {columns.padding * by_column})")
        source.line(f"taps = panel + {4 * columns.window * width} * tap")
        for first, count, size in runs(columns, self.most):
            function = self._function(first, size, results, width)
            forward, along = 4 * columns.step * by_column, 4 * kernel.out_strides[2]
            tail = "count, int64(tap == first)"
            if count == 1:
                source.line(f"{function}(above + {forward * first}, taps, below + {along * first}, {tail})")
                continue
            with source.block(f"for column in range({first}, {first + count * size}, {size}):"):
                source.line(f"{function}(above + {forward} * column, taps, below + {along} * column, {tail})")

    def _function(self, first: int, size: int, results: int, width: int) -> str:
        kernel, rows, columns = self.kernel, self.kernel.rows, self.kernel.columns
        name = f"tile_{first}x{size}" + (f"_{results}" if results < self.panel else "")
        weights = (rows.window * columns.window * width, columns.window * width, width)
        lines = [
            f"{name} = convolution_tile(",
            f"    {tuple(columns.taps(place) for place in range(first, first + size))}, {kernel.inputs}, {results},",
            (
                f"    step={columns.step}, dilation={columns.dilation}, "
                f"columns={(kernel.image_strides[2], kernel.out_strides[2])}, "
                f"row={kernel.image_strides[1] * rows.dilation},"
            ),
            f"    weights={weights}, width={self.target.width}, fused={self.target.fused}, scopes=(0, 3, 2),",
            ")",
        ]
        if lines[0] not in self.definitions:
            self.definitions += lines
        return name


def _vectors(kernel: ConvolutionKernel, target: Target) -> int:
    """Return how many vectors of results a panel has, for which a step of the inner loops takes the fewest cycles.

    A vector multiply-add takes one cycle, a vector or two pixels that are loaded one; a round takes one more.
    """
    found = []
    for across in range(1, min(4, -(-kernel.results // target.width)) + 1):
        if 4 * kernel.depth * across * target.width > LARGEST_PANEL:
            break
        panels, rest = divmod(kernel.results, across * target.width)
        pieces = [(panels, across), (1 if rest else 0, -(-rest // target.width))]
        cycles = 0.0
        for count, wide in pieces:
            for tiles, size in split(kernel.columns.results, max(1, target.sums // across)):
                load = wide + size / 2
                cycles += count * tiles * (max(size * wide, load) + 0.1 * load + 1)
        found.append((cycles, across))
    return min(found, default=(0.0, 1))[1]


def fits(depth: int, target: Target) -> bool:
    """Return whether the narrowest panel of weights of this depth can lie on the stack."""
    return 4 * depth * target.width <= LARGEST_PANEL
