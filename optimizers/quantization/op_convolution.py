"""The op hotbench::quantized_convolution: convolutions with 8-bit weights, nothing unfolded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from analyzer.errors import HotbenchError
from kernels.quantized.cpu_convolution_call import (
    KINDS,
    SLACK,
    Geometry,
    Window,
    convolve,
    geometry_of,
    workspace_bytes,
)
from optimizers.quantization.op_library import call_of, checked_bias, register, scratch
from optimizers.quantization.op_reference import matrix

SCHEMA = (
    "quantized_convolution(Tensor x, Tensor panels, Tensor scales, Tensor sums, Tensor? tables, Tensor? bias, "
    "str kind, int channels, int[] kernel, int[] stride, int[] dilation, int[] padding) -> Tensor"
)


def quantized_convolution(
    x: torch.Tensor,
    panels: torch.Tensor,
    scales: torch.Tensor,
    sums: torch.Tensor,
    tables: torch.Tensor | None,
    bias: torch.Tensor | None,
    kind: str,
    channels: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
) -> torch.Tensor:
    """Return the convolution of float32 x [batch, inputs, height, width] with W [channels, inputs, *kernel].

    kind: one of KINDS; the arrays are those of cpu_store.layout for W as [channels, inputs * height * width]. Each
    patch is quantised by its own range. padding: zeros on the left, on the right, above and below. Other pairs are of
    rows, then columns. For a float64 x it is the float64 convolution with what the weights stand for.
    Raises HotbenchError for what does not fit together, and where a gradient would be needed.
    """
    window = _window(x, kind, kernel, stride, dilation, padding)
    columns = window.inputs * window.kernel[0] * window.kernel[1]
    if x.dtype is torch.float64:
        weight = matrix(kind, channels, columns, 0, (panels, scales, sums, tables))
        shaped = weight.view(channels, window.inputs, *window.kernel)
        shift = None if bias is None else bias.double()
        padded = functional.pad(x, tuple(padding))
        return functional.conv2d(padded, shaped, shift, window.stride, 0, window.dilation)
    _check(x)
    call = call_of(kind, channels, columns, 0, panels, scales, sums, tables)
    address = 0 if bias is None else checked_bias(bias, channels)
    out = x.new_empty((len(x), channels, *window.results))
    if out.numel():
        if window.kernel == (1, 1) and window.stride != (1, 1) and not any(padding):
            x = x[:, :, :: window.stride[0], :: window.stride[1]]
            window = Window(window.inputs, (x.shape[2], x.shape[3]), (1, 1), (1, 1), (1, 1))
        geometry = geometry_of(window)
        image = _planes(x, window, geometry, padding)
        threads = torch.get_num_threads()
        workspace = scratch(workspace_bytes(call, geometry, len(x), threads))
        place = workspace.data_ptr()
        convolve(call, geometry, image.data_ptr(), len(x), out.data_ptr(), address, place, threads)
    return out


def _planes(x: torch.Tensor, window: Window, geometry: Geometry, padding: Sequence[int]) -> torch.Tensor:
    """Return x with zeros around it, cut into the planes of a geometry; it may be x itself."""
    (down, right), (rows, columns) = window.stride, geometry.planes
    single = (down, right) == (1, 1)
    if single and not any(padding) and geometry.pixels >= SLACK and x.is_contiguous() and not x.is_neg():
        return x
    batch, inputs, height, width = x.shape
    used = batch * inputs * geometry.channel
    room = x.new_zeros(used + SLACK)
    left, _, above, _ = padding
    if single:
        room[:used].view(batch, inputs, rows, columns)[:, :, above : above + height, left : left + width] = x
        return room
    spread = (left, columns * right - width - left, above, rows * down - height - above)
    whole = functional.pad(x, spread).view(batch, inputs, rows, down, columns, right)
    room[:used].view(batch, inputs, down, right, rows, columns).copy_(whole.permute(0, 1, 3, 5, 2, 4))
    return room


def _window(
    x: torch.Tensor,
    kind: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
) -> Window:
    """Return the window that slides over x. Raises HotbenchError for sizes that make none."""
    if kind not in KINDS:
        raise HotbenchError(f"convolutions with {kind!r} weights are not known; use one of {', '.join(KINDS)}")
    pairs = (tuple(kernel), tuple(stride), tuple(dilation))
    if any(len(pair) != 2 or min(pair) < 1 for pair in pairs) or len(padding) != 4 or min(padding) < 0:
        given = f"kernel {list(kernel)}, stride {list(stride)}, dilation {list(dilation)}, padding {list(padding)}"
        raise HotbenchError(f"a convolution with {given}: give two numbers of at least 1 each, and four for padding")
    if x.dim() != 4:
        raise HotbenchError(f"x is {list(x.shape)}; this quantized convolution takes [batch, channels, height, width]")
    left, right, above, below = padding
    size = (x.shape[2] + above + below, x.shape[3] + left + right)
    window = Window(x.shape[1], size, *pairs)  # type: ignore[arg-type]
    if min(window.results) < 1:
        raise HotbenchError(f"an image of {list(size)} is smaller than the kernel {list(kernel)}, dilation counted in")
    return window


def _check(x: torch.Tensor) -> None:
    if x.dtype is not torch.float32 or not x.is_cpu:
        given = f"{str(x.dtype).removeprefix('torch.')} on {x.device}"
        raise HotbenchError(f"x is {given}; this quantized convolution takes float32 on the CPU")
    if x.requires_grad and torch.is_grad_enabled():
        raise HotbenchError("a quantized layer has no gradient; call the model within torch.no_grad()")


def _fake(x: torch.Tensor, panels: torch.Tensor, *rest: Any) -> torch.Tensor:
    channels, kernel, stride, dilation, (left, right, above, below) = rest[-5:]
    sizes = (x.shape[2] + above + below, x.shape[3] + left + right)
    high, wide = (
        (size - step * (taps - 1) - 1) // move + 1
        for size, taps, move, step in zip(sizes, kernel, stride, dilation, strict=True)
    )
    return x.new_empty((x.shape[0], channels, high, wide))


convolution_op = register(SCHEMA, quantized_convolution, _fake)
