"""How the backward ops of ATen become IR ops: the formulas of its own kernels, in the order in which they compute."""

from __future__ import annotations

import math
from typing import Any

import torch

from optimizers.fusion.elementwise import FLOATING, _value
from optimizers.fusion.lowering import Lowering, View, handles

BACKWARD_OPS = (
    "threshold_backward", "tanh_backward", "sigmoid_backward", "gelu_backward", "silu_backward", "hardtanh_backward",
    "leaky_relu_backward", "elu_backward", "_softmax_backward_data", "_log_softmax_backward_data",
    "native_layer_norm_backward", "native_dropout_backward", "mse_loss", "mse_loss_backward", "select_backward",
    "slice_backward",
)  # fmt: skip
"""Ops that stay whole in a captured training graph and have a handler here."""

_MEAN, _SUM = 1, 2


def _floating(out: torch.Tensor, *items: Any) -> bool:
    tensors = [item for item in items if isinstance(item, View)]
    return out.dtype in FLOATING and all(item.dtype == out.dtype for item in tensors)


@handles("threshold_backward")
def _threshold_backward(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, (gradient, x, threshold) = _value(node), args
    if not _floating(out, gradient, x):
        return NotImplemented
    below = b.apply("le", x, float(threshold), dtype=torch.bool, like=out)
    return b.apply("where", below, 0.0, gradient, dtype=out.dtype, like=out)


@handles("tanh_backward")
def _tanh_backward(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, (gradient, y) = _value(node), args
    if not _floating(out, gradient, y):
        return NotImplemented
    slope = b.apply("sub", 1.0, b.apply("mul", y, y, like=out), dtype=out.dtype, like=out)
    return b.apply("mul", gradient, slope, like=out)


@handles("sigmoid_backward")
def _sigmoid_backward(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, (gradient, y) = _value(node), args
    if not _floating(out, gradient, y):
        return NotImplemented
    rest = b.apply("mul", gradient, b.apply("sub", 1.0, y, dtype=out.dtype, like=out), like=out)
    return b.apply("mul", rest, y, like=out)


@handles("gelu_backward")
def _gelu_backward(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, (gradient, x) = _value(node), args[:2]
    if not _floating(out, gradient, x):
        return NotImplemented
    if kwargs.get("approximate", "none") == "none":
        bell = b.apply("erf", b.apply("mul", x, math.sqrt(0.5), like=out), like=out)
        cumulative = b.apply("mul", b.apply("add", bell, 1.0, like=out), 0.5, like=out)
        power = b.apply("mul", b.apply("mul", x, x, like=out), -0.5, like=out)
        density = b.apply("mul", b.apply("exp", power, like=out), 1.0 / math.sqrt(2.0 * math.pi), like=out)
        slope = b.apply("add", cumulative, b.apply("mul", x, density, like=out), like=out)
    else:
        slope = _tanh_gelu_slope(b, x, out)
    return b.apply("mul", gradient, slope, like=out)


def _tanh_gelu_slope(b: Lowering, x: View, out: torch.Tensor) -> View:
    def times(left: View, right: View | float) -> View:
        return b.apply("mul", left, right, like=out)

    beta, kappa = math.sqrt(2.0 / math.pi), 0.044715
    square = times(x, x)
    inner = times(b.apply("add", x, times(times(square, x), kappa), like=out), beta)
    bell = b.apply("tanh", inner, like=out)
    left = times(b.apply("add", bell, 1.0, like=out), 0.5)
    bell_slope = b.apply("sub", 1.0, times(bell, bell), dtype=out.dtype, like=out)
    inner_slope = times(b.apply("add", times(square, 3.0 * kappa), 1.0, like=out), beta)
    return b.apply("add", left, times(times(times(x, 0.5), bell_slope), inner_slope), like=out)


@handles("silu_backward")
def _silu_backward(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, (gradient, x) = _value(node), args
    if not _floating(out, gradient, x):
        return NotImplemented
    gate = b.apply("sigmoid", x, like=out)
    inner = b.apply("mul", x, b.apply("sub", 1.0, gate, dtype=out.dtype, like=out), like=out)
    slope = b.apply("mul", gate, b.apply("add", inner, 1.0, like=out), like=out)
    return b.apply("mul", gradient, slope, like=out)


@handles("hardtanh_backward")
def _hardtanh_backward(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, (gradient, x, low, high) = _value(node), args
    if not _floating(out, gradient, x):
        return NotImplemented
    below = b.apply("le", x, float(low), dtype=torch.bool, like=out)
    above = b.apply("ge", x, float(high), dtype=torch.bool, like=out)
    outside = b.apply("logical_or", below, above, like=out)
    return b.apply("where", outside, 0.0, gradient, dtype=out.dtype, like=out)


@handles("leaky_relu_backward")
def _leaky_relu_backward(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, (gradient, x, slope, _) = _value(node), args
    if not _floating(out, gradient, x):
        return NotImplemented
    positive = b.apply("gt", x, 0.0, dtype=torch.bool, like=out)
    scaled = b.apply("mul", gradient, float(slope), like=out)
    return b.apply("where", positive, gradient, scaled, dtype=out.dtype, like=out)


@handles("elu_backward")
def _elu_backward(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, (gradient, alpha, scale, input_scale, is_result, x) = _value(node), args
    if not _floating(out, gradient, x):
        return NotImplemented
    factor = float(input_scale) * float(scale) * (1.0 if is_result else float(alpha))
    if is_result:
        inner = b.apply("add", x, float(alpha) * float(scale), like=out)
        negative = b.apply("mul", b.apply("mul", gradient, float(input_scale), like=out), inner, like=out)
    else:
        power = b.apply("exp", b.apply("mul", x, float(input_scale), like=out), like=out)
        negative = b.apply("mul", b.apply("mul", gradient, factor, like=out), power, like=out)
    below = b.apply("le", x, 0.0, dtype=torch.bool, like=out)
    positive = b.apply("mul", gradient, float(scale), like=out)
    return b.apply("where", below, negative, positive, dtype=out.dtype, like=out)


@handles("_softmax_backward_data", "_log_softmax_backward_data")
def _softmax_backward(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, (gradient, y, axis, dtype) = _value(node), args
    if not _floating(out, gradient, y) or dtype != out.dtype or not y.shape:
        return NotImplemented
    if "log" in str(node.target):
        total = b.reduce("reduce_sum", gradient, [axis])
        return b.apply("sub", gradient, b.apply("mul", b.apply("exp", y, like=out), total, like=out), like=out)
    product = b.apply("mul", gradient, y, like=out)
    total = b.reduce("reduce_sum", product, [axis])
    return b.apply("mul", b.apply("sub", gradient, total, like=out), y, like=out)


@handles("native_layer_norm_backward")
def _layer_norm_backward(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    gradient, x, shape, mean, scale, weight, _, wanted = args
    if x.dtype not in FLOATING or any(v is not None and v.dtype != x.dtype for v in (gradient, mean, scale, weight)):
        return NotImplemented
    rank, outer = len(x.shape), len(x.shape) - len(shape)
    rows, inner = list(range(outer)), list(range(outer, rank))
    count = float(math.prod(shape))
    normal = b.apply("mul", b.apply("sub", x, mean), scale)
    of_normal = gradient if weight is None else b.apply("mul", gradient, weight)
    of_x = of_weight = of_bias = None
    if wanted[0]:
        total = b.reduce("reduce_sum", of_normal, inner)
        along = b.reduce("reduce_sum", b.apply("mul", of_normal, normal), inner)
        centred = b.apply("sub", b.apply("mul", of_normal, count), total)
        centred = b.apply("sub", centred, b.apply("mul", normal, along))
        of_x = b.apply("mul", b.apply("div", scale, count), centred, like=node.meta["val"][0])
    if wanted[1]:
        of_weight = _sum_rows(b, b.apply("mul", gradient, normal), rows)
    if wanted[2]:
        of_bias = _sum_rows(b, gradient, rows)
    return of_x, of_weight, of_bias


def _sum_rows(b: Lowering, item: View, rows: list[int]) -> View:
    return b.reduce("reduce_sum", item, rows, keep=False) if rows else b.apply("identity", item)


@handles("native_dropout_backward")
def _dropout_backward(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, (gradient, mask, scale) = _value(node), args
    if out.dtype not in FLOATING or gradient.dtype != out.dtype:
        return NotImplemented
    kept = b.cast(mask, out.dtype)
    return b.apply("mul", b.apply("mul", gradient, kept, like=out), float(scale), like=out)


@handles("mse_loss")
def _mse_loss(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, (x, target) = _value(node), args[:2]
    if not _floating(out, x, target):
        return NotImplemented
    reduction = args[2] if len(args) > 2 else kwargs.get("reduction", _MEAN)
    difference = b.apply("sub", x, target)
    squares = b.apply("mul", difference, difference)
    if reduction not in (_MEAN, _SUM):
        return b.apply("identity", squares, like=out)
    total = b.reduce("reduce_sum", squares, list(range(len(squares.shape))), keep=False)
    return total if reduction == _SUM else b.apply("div", total, float(math.prod(squares.shape)))


@handles("mse_loss_backward")
def _mse_loss_backward(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, (gradient, x, target, reduction) = _value(node), args
    if not _floating(out, gradient, x, target):
        return NotImplemented
    factor = 2.0 / math.prod(x.shape) if reduction == _MEAN else 2.0
    difference = b.apply("mul", b.apply("sub", x, target, like=out), factor, like=out)
    return b.apply("mul", difference, gradient, like=out)


@handles("select_backward")
def _select_backward(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    gradient, _, axis, position = args
    axis %= _value(node).dim()
    part = View(gradient.source, gradient.meta.unsqueeze(axis))
    return _padded(b, node, part, axis, position % _value(node).shape[axis])


@handles("slice_backward")
def _slice_backward(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    gradient, _, axis, start, _, step = args
    out = _value(node)
    axis %= out.dim()
    if step != 1:
        return NotImplemented
    start = min(max(start + out.shape[axis] if start < 0 else start, 0), out.shape[axis])
    return _padded(b, node, gradient, axis, start)


def _padded(b: Lowering, node: torch.fx.Node, part: View, axis: int, start: int) -> Any:
    """Return `part` in zeros: a concatenation whose first and last parts are constants."""
    out = _value(node)
    if out.dtype not in FLOATING or part.dtype != out.dtype or 0 in part.shape:
        return NotImplemented
    after = out.shape[axis] - start - part.shape[axis]
    joined = b.define("join", out.shape, out.stride(), out.dtype)
    position = 0
    for length, item in ((start, None), (part.shape[axis], part), (after, None)):
        if length == 0:
            continue
        window = joined.meta.narrow(axis, position, length)
        position += length
        zeros = item is None and b.constant(0.0, window.shape, out.dtype)
        source = zeros if isinstance(zeros, View) else part
        place = (joined.source, window.storage_offset(), tuple(window.stride()))
        strides = source.meta.contiguous().stride()
        b.define(
            "compute", window.shape, strides, out.dtype, op="identity", operands=(source.reference(),), place=place
        )
    return joined
