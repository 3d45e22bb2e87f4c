"""How ATen's reductions and normalisations become IR ops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from optimizers.fusion.elementwise import ARITHMETIC, FLOATING, _short, _value
from optimizers.fusion.lowering import Lowering, View, handles


def _axes(view: View, given: Any) -> list[int]:
    rank = len(view.shape)
    if given is None or (isinstance(given, Sequence) and not given):
        return list(range(rank))
    return [given % rank if rank else 0] if isinstance(given, int) else [axis % rank for axis in given]


def _argument(args: list[Any], kwargs: dict[str, Any], position: int, name: str, default: Any) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _count(view: View, axes: list[int]) -> int:
    return math.prod(view.shape[axis] for axis in axes) if view.shape else 1


@handles("sum", "mean")
def _sum(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out = _value(node)
    if out.dtype not in ARITHMETIC:
        return NotImplemented
    item = b.cast(args[0], out.dtype)
    assert isinstance(item, View)
    axes = _axes(item, _argument(args, kwargs, 1, "dim", None))
    total = b.reduce("reduce_sum", item, axes, keep=bool(_argument(args, kwargs, 2, "keepdim", False)))
    return total if _short(node) == "sum" else b.apply("div", total, float(_count(item, axes)))


@handles("amax", "amin", "any", "all")
def _extreme(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    name, out = _short(node), _value(node)
    if (name in ("amax", "amin") and out.dtype not in ARITHMETIC) or (
        name in ("any", "all") and out.dtype != torch.bool
    ):
        return NotImplemented
    item = b.cast(args[0], out.dtype)
    assert isinstance(item, View)
    axes = _axes(item, _argument(args, kwargs, 1, "dim", None))
    op = {"amax": "reduce_max", "amin": "reduce_min", "any": "reduce_any", "all": "reduce_all"}[name]
    return b.reduce(op, item, axes, keep=bool(_argument(args, kwargs, 2, "keepdim", False)))


def _moments(b: Lowering, x: View, axes: list[int], correction: float) -> tuple[View, View, View]:
    """Return (x - mean, mean, variance); the statistics keep their axes.

    The mean is rounded, and what that leaves in x - mean is taken out of all three: of equal values it would be all.
    """
    count = float(_count(x, axes))
    mean = b.apply("div", b.reduce("reduce_sum", x, axes), count)
    centred = b.apply("sub", x, mean)
    left = b.apply("div", b.reduce("reduce_sum", centred, axes), count)
    squares = b.reduce("reduce_sum", b.apply("mul", centred, centred), axes)
    # Of the sum of squares, not of each: that would be one more walk over the row.
    squares = b.apply("sub", squares, b.apply("mul", b.apply("mul", left, left), count))
    variance = b.apply("div", b.apply("maximum", squares, 0.0), max(count - correction, 0.0))
    return b.apply("sub", centred, left), b.apply("add", mean, left), variance


@handles("var", "var_mean")
def _variance(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    x = args[0]
    if x.dtype not in FLOATING or not str(node.target).endswith(".correction"):
        return NotImplemented
    axes = _axes(x, _argument(args, kwargs, 1, "dim", None))
    correction = kwargs.get("correction")
    _, mean, variance = _moments(b, x, axes, 1.0 if correction is None else float(correction))
    if not kwargs.get("keepdim", False):
        mean, variance = (View(item.source, item.meta.squeeze(tuple(axes))) for item in (mean, variance))
    return (variance, mean) if _short(node) == "var_mean" else variance


@handles("_softmax", "_log_softmax")
def _softmax(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, x = _value(node), args[0]
    if x.dtype not in FLOATING or x.dtype != out.dtype or not x.shape:
        return NotImplemented
    shifted = b.apply("sub", x, b.reduce("reduce_max", x, [args[1]]))
    powers = b.apply("exp", shifted)
    total = b.reduce("reduce_sum", powers, [args[1]])
    if _short(node) == "_softmax":
        # One division a row: it takes the processor as long as ten products.
        return b.apply("mul", powers, b.apply("reciprocal", total), like=out)
    return b.apply("sub", shifted, b.apply("log", total), like=out)


@handles("native_layer_norm")
def _layer_norm(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, (x, shape, weight, bias, epsilon) = _value_of_first(node), args
    if x.dtype not in FLOATING:
        return NotImplemented
    axes = list(range(len(x.shape) - len(shape), len(x.shape)))
    centred, mean, variance = _moments(b, x, axes, 0.0)
    scale = b.apply("rsqrt", b.apply("add", variance, float(epsilon)))
    result = b.apply("mul", centred, scale, like=out)
    if weight is not None:
        result = b.apply("mul", result, weight, like=out)
    if bias is not None:
        result = b.apply("add", result, bias, like=out)
    return result, mean, scale


def _value_of_first(node: torch.fx.Node) -> torch.Tensor:
    value: torch.Tensor = node.meta["val"][0]
    return value


@handles("native_batch_norm", "_native_batch_norm_legit_no_training")
def _batch_norm(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """With running statistics it is one multiplication and one addition for each channel, as in ATen."""
    out = _value_of_first(node)
    if _short(node) == "native_batch_norm":
        x, weight, bias, mean, variance, training, _, epsilon = args
    else:
        x, weight, bias, mean, variance, _, epsilon = args
        training = False
    read = {user.args[1] for user in node.users}
    if (
        read - {0}
        or training
        or mean is None
        or x.dtype not in FLOATING
        or any(v is not None and v.dtype != x.dtype for v in args[1:5])
    ):
        return NotImplemented
    scale = b.apply("rsqrt", b.apply("add", variance, float(epsilon)))
    if weight is not None:
        scale = b.apply("mul", scale, weight)
    shift = b.apply("mul", mean, scale)
    shift = b.apply("neg", shift) if bias is None else b.apply("sub", bias, shift)
    channels = [-1, *([1] * (len(x.shape) - 2))]
    result = b.apply("mul", x, b.view(scale, *channels), like=out)
    return b.apply("add", result, b.view(shift, *channels), like=out), None, None


@handles("linalg_vector_norm")
def _vector_norm(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, x = _value(node), args[0]
    order = _argument(args, kwargs, 1, "ord", 2)
    if x.dtype not in FLOATING or out.dtype != x.dtype or order not in (1, 2, math.inf):
        return NotImplemented
    axes = _axes(x, _argument(args, kwargs, 2, "dim", None))
    keep = bool(_argument(args, kwargs, 3, "keepdim", False))
    if order == 2:
        return b.apply("sqrt", b.reduce("reduce_sum", b.apply("mul", x, x), axes, keep))
    op = "reduce_sum" if order == 1 else "reduce_max"
    return b.reduce(op, b.apply("abs", x), axes, keep)
