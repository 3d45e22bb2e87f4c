"""A depthwise convolution as lines of a generated kernel: a vector of channels, row after row."""

from __future__ import annotations

from collections.abc import Iterator

from kernels.compiler.convolution_ir import Axis, ConvolutionKernel
from kernels.compiler.gemm import split
from kernels.compiler.gemm_target import Target
from kernels.compiler.source import Source


class DepthwisePrinter:
    """Prints the loops of one depthwise convolution. items: equal pieces that its work divides into."""

    def __init__(self, kernel: ConvolutionKernel, target: Target) -> None:
        self.kernel, self.target = kernel, target
        self.blocks = -(-kernel.groups // target.width)
        self.items = kernel.batch * self.blocks
        self.definitions: list[str] = []
        # A third of the registers holds results, the others columns of the image.
        self.most = max(1, target.sums // 3)

    def print(self, source: Source, shares: tuple[str, str]) -> None:
        """Print the loop over blocks of channels: the weights in a panel, then row after row."""
        kernel, width = self.kernel, self.target.width
        window = kernel.rows.window * kernel.columns.window
        source.line(f"panel = stack({4 * window * width})")
        full, rest = divmod(kernel.groups, width)
        with source.block(f"for item in range({shares[0]}, {shares[1]}):"):
            source.line(f"image_number = item // {self.blocks}")
            source.line(f"channel = item % {self.blocks} * {width}")
            if full and rest:
                with source.block(f"if channel < {full * width}:"):
                    self._block(source, width)
                with source.block("else:"):
                    self._block(source, rest)
            else:
                self._block(source, rest or width)

    def _block(self, source: Source, lanes: int) -> None:
        kernel, width = self.kernel, self.target.width
        rows, columns = kernel.rows, kernel.columns
        by_channel, _, by_row, by_column = kernel.weight_strides
        with (
            source.block(f"for tap_row in range({rows.window}):"),
            source.block(f"for tap_column in range({columns.window}):"),
            source.block(f"for lane in range({lanes}):"),
        ):
            place = f"{by_channel} * (channel + lane) + {by_row} * tap_row + {by_column} * tap_column"
            source.line(f"tap = load_float32(weight, {place}, 1)")
            source.line(f"store_float32(panel, {width} * ({columns.window} * tap_row + tap_column) + lane, tap, 3)")
        with source.block(f"for row in range({rows.results}):"):
            source.line(f"start = {rows.step} * row - {rows.padding}")
            source.line(f"first = max(0, ({rows.dilation - 1} - start) // {rows.dilation})")
            source.line(f"last = min({rows.window}, ({rows.extent - 1} - start) // {rows.dilation} + 1)")
            by_image, by_image_row, by_image_column = kernel.image_strides
            where = f"{by_image} * image_number + {by_image_row} * (start + {rows.dilation} * first) + channel"
            source.line(f"above = image + 4 * ({where} - {columns.padding * by_image_column})")
            source.line(f"taps = panel + {4 * columns.window * width} * first")
            where = f"{kernel.out_strides[0]} * image_number + {kernel.out_strides[1]} * row + channel"
            source.line(f"below = out + 4 * ({where})")
            for first, count, size in runs(columns, self.most):
                self._strips(source, first, count, size, lanes)

    def _strips(self, source: Source, first: int, count: int, size: int, lanes: int) -> None:
        """Print the call of a strip, or of several equal ones."""
        kernel = self.kernel
        function = self._function(first, size, lanes)
        forward = 4 * kernel.columns.step * kernel.image_strides[2]
        if count == 1:
            image, out = f"above + {forward * first}", f"below + {4 * kernel.out_strides[2] * first}"
            source.line(f"{function}({image}, taps, {out}, last - first)")
            return
        with source.block(f"for column in range({first}, {first + count * size}, {size}):"):
            image, out = f"above + {forward} * column", f"below + {4 * kernel.out_strides[2]} * column"
            source.line(f"{function}({image}, taps, {out}, last - first)")

    def _function(self, first: int, size: int, lanes: int) -> str:
        kernel, columns = self.kernel, self.kernel.columns
        taps = tuple(columns.taps(place) for place in range(first, first + size))
        name = f"strip_{first}x{size}" + (f"_{lanes}" if lanes < self.target.width else "")
        self.definitions += [
            f"{name} = depthwise_strip(",
            f"    {taps}, {columns.step}, {columns.dilation},",
            (
                f"    columns={(kernel.image_strides[2], kernel.out_strides[2])}, "
                f"row={kernel.image_strides[1] * kernel.rows.dilation}, window={columns.window},"
            ),
            f"    lanes={lanes}, width={self.target.width}, fused={self.target.fused}, scopes=(0, 3, 2),",
            ")",
        ]
        return name


def runs(columns: Axis, most: int) -> Iterator[tuple[int, int, int]]:
    """Return (first, count, size) of the strips of a row, those side by side that meet the image alike together."""
    sizes = [size for count, size in split(columns.results, most) for _ in range(count)]
    first, run = 0, (0, 0, 0)
    for size in sizes:
        alike = [columns.taps(first + k) for k in range(size)]
        if run[1] and run[2] == size and alike == [columns.taps(run[0] + k) for k in range(size)]:
            run = (run[0], run[1] + 1, size)
        else:
            if run[1]:
                yield run
            run = (first, 1, size)
        first += size
    yield run
