"""Convolutions with channels last: 1x1 ones are products of rows, the others kernels of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kernels.compiler.convolution_ir import Axis, ConvolutionKernel
from kernels.compiler.dense_print import fits
from kernels.compiler.gemm_target import host_target
from optimizers.fusion.convolution_layout import is_channels_last
from optimizers.fusion.graph import Call, Reference
from optimizers.fusion.lowering import Lowering, View, handles
from optimizers.fusion.targets import KernelTarget


@dataclass(frozen=True, slots=True)
class Convolution(KernelTarget):
    """What a call runs in the place of an ATen convolution; its arguments are the image and the weight."""

    groups: int
    rows: Axis
    columns: Axis
    nodes: tuple[str, ...]

    def __str__(self) -> str:
        """Return what a table of calls shows: an op's name would stand here."""
        return "hotbench.convolution"

    def kernel(self, windows: Sequence[Reference], dtypes: Sequence[str]) -> ConvolutionKernel:
        """Return the kernel for windows of the image, the weight and the result, all of float32."""
        image, weight, out = windows
        results, inputs = weight.shape[:2]
        return ConvolutionKernel(
            image.shape[0],
            self.groups,
            inputs,
            results // self.groups,
            self.rows,
            self.columns,
            (image.strides[0], image.strides[2], image.strides[3]),
            (weight.strides[0], weight.strides[1], weight.strides[2], weight.strides[3]),
            (out.strides[0], out.strides[1], out.strides[2]),
        )


@handles("convolution")
def _convolution(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Leave to ATen what is not float32, not 2-D, transposed, or not in channels-last memory (see arranged)."""
    x, weight, bias, step, padding, dilation, transposed, _, groups = args
    out = node.meta["val"]
    if out.dim() != 4 or out.dtype != torch.float32 or transposed or not is_channels_last(x.meta):
        return NotImplemented
    window = weight.shape[2:]
    axes = [
        Axis(x.shape[2 + k], window[k], _nth(step, k), _nth(padding, k), _nth(dilation, k), extent)
        for k, extent in enumerate(out.shape[2:])
    ]
    if window == (1, 1) and groups == 1 and not any(axis.padding for axis in axes):
        result = _product(b, x, weight, axes)
    elif fits(weight.shape[1] * window[0] * window[1], host_target()):
        shape = (x.shape[0], axes[0].results, axes[1].results, weight.shape[0])
        made = _called(b, Convolution(groups, axes[0], axes[1], (node.name,)), (x, weight), shape)
        result = View(made.source, made.meta.permute(0, 3, 1, 2))
    else:
        return NotImplemented
    if bias is None:
        return result
    return b.apply("add", result, b.view(bias, -1, 1, 1), like=_channels_last(out.shape))


def _nth(values: Sequence[int], axis: int) -> int:
    """Return the value of an axis; one value serves for all."""
    return int(values[axis % len(values)])


def _channels_last(shape: Sequence[int]) -> torch.Tensor:
    return torch.empty(tuple(shape), device="meta", memory_format=torch.channels_last)


def _product(b: Lowering, x: View, weight: View, axes: Sequence[Axis]) -> View:
    """Return pixels [pixels, channels] @ weights [channels, results] as an image again."""
    steps = [axis.step for axis in axes]
    if steps != [1, 1]:
        part = View(x.source, x.meta[:, :, :: steps[0], :: steps[1]])
        x = b.apply("identity", part, like=_channels_last(part.shape))
    batch, channels, height, width = x.shape
    pixels = View(x.source, x.meta.permute(0, 2, 3, 1).view(-1, channels))
    matrix = View(weight.source, weight.meta[:, :, 0, 0].t())
    results = weight.shape[0]
    product = _called(b, torch.ops.aten.mm.default, (pixels, matrix), (batch * height * width, results))
    return View(product.source, product.meta.view(batch, height, width, results).permute(0, 3, 1, 2))


def padded_average(b: Lowering, node: torch.fx.Node, x: View, axes: Sequence[Axis], divisor: float) -> View | None:
    """Return average pooling as a depthwise convolution whose weights are all alike; None where it can't be one.

    Padding counts as zeros, so the divisor is the same everywhere.
    """
    if x.dtype != torch.float32 or not is_channels_last(x.meta):
        return None
    channels = x.shape[1]
    b.constants.append(torch.full((axes[0].window, axes[1].window), 1.0 / divisor))
    alike = b.define(
        "constant", b.constants[-1].shape, b.constants[-1].stride(), torch.float32, number=len(b.constants) - 1
    )
    weight = View(alike.source, alike.meta.expand(channels, 1, -1, -1))
    shape = (x.shape[0], axes[0].results, axes[1].results, channels)
    made = _called(b, Convolution(channels, axes[0], axes[1], (node.name,)), (x, weight), shape)
    return View(made.source, made.meta.permute(0, 3, 1, 2))


def _called(b: Lowering, target: Any, operands: tuple[View, ...], shape: tuple[int, ...]) -> View:
    """Return the dense result of a call."""
    strides = torch.empty(shape, device="meta").stride()
    view = b.define("call", shape, strides, torch.float32, number=len(b.calls))
    b.calls.append(Call(target, tuple(item.reference() for item in operands), (), (view.source,), False, False))
    return view
