"""A convolution with channels last: depthwise, grouped or dense."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from kernels.compiler.ir import Buffer, IrError


@dataclass(frozen=True, slots=True)
class Axis:
    """A convolution along one axis of the image.

    extent: of the image; window: taps; step: of the window; padding: zeros before the image; dilation: between taps;
    results: places of the window.
    """

    extent: int
    window: int
    step: int
    padding: int
    dilation: int
    results: int

    def taps(self, place: int) -> tuple[int, int]:
        """Return the first tap that meets the image at a place of the window, and the end of those that do."""
        start = place * self.step - self.padding
        first = max(0, -(start // self.dilation)) if start < 0 else 0
        return first, max(first, min(self.window, (self.extent - 1 - start) // self.dilation + 1))


@dataclass(frozen=True, slots=True)
class ConvolutionKernel:
    """out [batch, rows, columns, groups * results] of image [batch, rows, columns, groups * inputs].

    inputs, results: channels of one group, in the image and in the result; a depthwise convolution has one of each.
    image_strides, out_strides: (batch, row, column) in elements; channels are adjacent.
    weight_strides:             (result channel, input channel of the group, row, column) in elements.
    """

    batch: int
    groups: int
    inputs: int
    results: int
    rows: Axis
    columns: Axis
    image_strides: tuple[int, int, int]
    weight_strides: tuple[int, int, int, int]
    out_strides: tuple[int, int, int]

    @property
    def depthwise(self) -> bool:
        """Return whether each channel has a window of its own."""
        return self.inputs == self.results == 1

    @property
    def depth(self) -> int:
        """Return how many products are added up for one result, away from the border."""
        return self.inputs * self.rows.window * self.columns.window

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """Return the memory of the kernel: image, weight, result."""
        image = _reach((self.batch, self.rows.extent, self.columns.extent), self.image_strides)
        windows = (self.groups * self.results, self.inputs, self.rows.window, self.columns.window)
        out = _reach((self.batch, self.rows.results, self.columns.results), self.out_strides)
        return (
            Buffer("image", "float32", image + self.groups * self.inputs - 1),
            Buffer("weight", "float32", _reach(windows, self.weight_strides)),
            Buffer("out", "float32", out + self.groups * self.results - 1, True),
        )

    @property
    def flops(self) -> int:
        """Return the additions and multiplications, those with the zeros of the border included."""
        points = self.batch * self.groups * self.results * self.rows.results * self.columns.results
        return 2 * points * self.depth

    def key(self) -> str:
        """Return a hash of everything that the generated code depends on."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:24]


def _reach(extents: tuple[int, ...], strides: tuple[int, ...]) -> int:
    return 1 + sum((extent - 1) * stride for extent, stride in zip(extents, strides, strict=True))


def verify_convolution(kernel: ConvolutionKernel) -> None:
    """Return nothing if the kernel keeps the rules; raise IrError on the first that it breaks."""
    for axis in (kernel.rows, kernel.columns):
        if min(axis.extent, axis.window, axis.step, axis.dilation, axis.results) < 1 or axis.padding < 0:
            raise IrError(f"{axis} has an extent, a window, a step, a dilation or a result count below 1")
    if min(kernel.batch, kernel.groups, kernel.inputs, kernel.results) < 1:
        raise IrError(f"a convolution of {kernel.batch} images, {kernel.groups} groups of {kernel.inputs} channels")
    if min(*kernel.image_strides, *kernel.weight_strides, *kernel.out_strides) < 0:
        raise IrError("a convolution cannot walk backwards: a stride is negative")
    sizes = (kernel.batch, kernel.rows.results, kernel.columns.results)
    inner = kernel.groups * kernel.results
    for extent, stride in sorted(zip(sizes, kernel.out_strides, strict=True), key=lambda pair: pair[1]):
        if extent > 1 and stride < inner:
            raise IrError(f"results at strides {kernel.out_strides} overlap")
        inner = max(inner, stride * extent)
