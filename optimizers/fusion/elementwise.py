"""How ATen's pointwise ops become IR ops."""

from __future__ import annotations

import math
from typing import Any

import torch

from optimizers.fusion.graph import DTYPES
from optimizers.fusion.lowering import Item, Lowering, View, handles

ARITHMETIC = (torch.float32, torch.float64, torch.int32, torch.int64)
FLOATING = (torch.float32, torch.float64)

_UNARY_FLOAT = {
    "exp": "exp", "expm1": "expm1", "log": "log", "log1p": "log1p", "log2": "log2", "sqrt": "sqrt",
    "rsqrt": "rsqrt", "reciprocal": "reciprocal", "sigmoid": "sigmoid", "tanh": "tanh", "erf": "erf",
    "sin": "sin", "cos": "cos",
}  # fmt: skip
_UNARY_ANY = {"neg": "neg", "abs": "abs", "sign": "sign", "relu": "relu"}
_ROUNDING = {"floor": "floor", "ceil": "ceil", "round": "round", "trunc": "trunc"}
_BINARY = {"add": "add", "sub": "sub", "mul": "mul", "maximum": "maximum", "minimum": "minimum"}
_COMPARE = {"eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge"}
_LOGICAL = {"logical_and": "logical_and", "logical_or": "logical_or", "logical_xor": "logical_xor"}
_BITWISE = {"bitwise_and": "bitwise_and", "bitwise_or": "bitwise_or", "bitwise_xor": "bitwise_xor"}


def _value(node: torch.fx.Node) -> torch.Tensor:
    value: torch.Tensor = node.meta["val"]
    return value


def _short(node: torch.fx.Node) -> str:
    return str(node.target).split(".")[1]


def _overload(node: torch.fx.Node) -> str:
    return str(node.target).split(".")[2]


@handles(*_UNARY_FLOAT, *_UNARY_ANY, *_ROUNDING)
def _unary(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    name, out = _short(node), _value(node)
    if len(args) > 1 or kwargs:
        return NotImplemented
    allowed: tuple[torch.dtype, ...]
    if name in _UNARY_FLOAT:
        op, allowed = _UNARY_FLOAT[name], FLOATING
    elif name in _UNARY_ANY:
        op, allowed = _UNARY_ANY[name], ARITHMETIC
    else:
        op, allowed = _ROUNDING[name], FLOATING
    if out.dtype not in allowed:
        return NotImplemented
    return b.apply(op, b.cast(args[0], out.dtype), like=out)


@handles(*_BINARY, "rsub")
def _binary(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    name, out = _short(node), _value(node)
    if out.dtype not in ARITHMETIC:
        return NotImplemented
    left, right = (b.cast(item, out.dtype) for item in args[:2])
    if name == "rsub":
        left, right, name = right, left, "sub"
    alpha = args[2] if len(args) > 2 else kwargs.get("alpha", 1)
    if alpha != 1:
        if not isinstance(right, View):
            return NotImplemented
        right = b.apply("mul", right, b.cast(alpha, out.dtype))
    return b.apply(_BINARY[name], left, right, dtype=out.dtype, like=out)


@handles("div")
def _divide(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, mode = _value(node), kwargs.get("rounding_mode")
    if out.dtype not in FLOATING or mode not in (None, "trunc"):
        return NotImplemented
    quotient = b.apply("div", *(b.cast(item, out.dtype) for item in args[:2]), dtype=out.dtype, like=out)
    return quotient if mode is None else b.apply("trunc", quotient, like=out)


@handles("remainder", "atan2")
def _float_binary(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out = _value(node)
    if out.dtype not in FLOATING:
        return NotImplemented
    return b.apply(_short(node), *(b.cast(item, out.dtype) for item in args[:2]), dtype=out.dtype, like=out)


@handles("pow")
def _power(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out = _value(node)
    if out.dtype not in FLOATING:
        return NotImplemented
    base, exponent = (b.cast(item, out.dtype) for item in args[:2])
    if isinstance(exponent, View) or not isinstance(base, View):
        return b.apply("pow", base, exponent, dtype=out.dtype, like=out)
    if exponent in (2.0, 3.0):
        square = b.apply("mul", base, base, like=out)
        return square if exponent == 2.0 else b.apply("mul", square, base, like=out)
    short = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal", 1.0: "identity"}.get(float(exponent))
    return b.apply(short, base, like=out) if short else b.apply("pow", base, exponent, like=out)


@handles("square")
def _square(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out = _value(node)
    return b.apply("mul", args[0], args[0], like=out) if out.dtype in ARITHMETIC else NotImplemented


@handles(*_COMPARE)
def _compare(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    dtype = torch.result_type(*(item.meta if isinstance(item, View) else item for item in args[:2]))
    if dtype not in ARITHMETIC:
        return NotImplemented
    left, right = (b.cast(item, dtype) for item in args[:2])
    return b.apply(_COMPARE[_short(node)], left, right, dtype=torch.bool, like=_value(node))


@handles(*_LOGICAL)
def _logical(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    left, right = (b.cast(item, torch.bool) for item in args[:2])
    return b.apply(_LOGICAL[_short(node)], left, right, dtype=torch.bool, like=_value(node))


@handles("logical_not")
def _logical_not(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    return b.apply("logical_not", b.cast(args[0], torch.bool), dtype=torch.bool, like=_value(node))


@handles(*_BITWISE)
def _bitwise(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out = _value(node)
    if out.dtype in FLOATING:
        return NotImplemented
    left, right = (b.cast(item, out.dtype) for item in args[:2])
    return b.apply(_BITWISE[_short(node)], left, right, dtype=out.dtype, like=out)


@handles("bitwise_not")
def _bitwise_not(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out = _value(node)
    return NotImplemented if out.dtype in FLOATING else b.apply("bitwise_not", args[0], like=out)


@handles("isnan", "isinf")
def _tests(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if args[0].dtype not in FLOATING:
        return NotImplemented
    return b.apply(_short(node), args[0], dtype=torch.bool, like=_value(node))


@handles("where")
def _where(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if len(args) != 3:
        return NotImplemented
    out = _value(node)
    condition = b.cast(args[0], torch.bool)
    return b.apply(
        "where", condition, b.cast(args[1], out.dtype), b.cast(args[2], out.dtype), dtype=out.dtype, like=out
    )


@handles("masked_fill")
def _masked_fill(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out = _value(node)
    value = b.cast(args[2], out.dtype)
    return b.apply("where", args[1], value, b.cast(args[0], out.dtype), dtype=out.dtype, like=out)


@handles("clamp", "clamp_min", "clamp_max", "hardtanh")
def _clamp(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    name, out = _short(node), _value(node)
    if out.dtype not in ARITHMETIC:
        return NotImplemented
    bounds = [*args[1:], *([None] * (3 - len(args)))]
    low, high = kwargs.get("min", bounds[0]), kwargs.get("max", bounds[1])
    if name == "clamp_max":
        low, high = None, low if low is not None else high
    if name == "hardtanh":
        low, high = (
            kwargs.get("min_val", -1 if low is None else low),
            kwargs.get("max_val", 1 if high is None else high),
        )
    result = b.cast(args[0], out.dtype)
    if low is not None:
        result = b.apply("maximum", result, b.cast(low, out.dtype), like=out)
    if high is not None:
        result = b.apply("minimum", result, b.cast(high, out.dtype), like=out)
    return result


@handles("addcmul")
def _addcmul(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out = _value(node)
    if out.dtype not in FLOATING:
        return NotImplemented
    base, left, right = (b.cast(item, out.dtype) for item in args[:3])
    value = args[3] if len(args) > 3 else kwargs.get("value", 1)
    scaled = left if value == 1 else b.apply("mul", left, b.cast(value, out.dtype))
    return b.apply("add", base, b.apply("mul", scaled, right), like=out)


@handles("gelu")
def _gelu(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, x = _value(node), args[0]
    if kwargs.get("approximate", "none") == "none":
        bell = b.apply("erf", b.apply("mul", x, math.sqrt(0.5), like=out), like=out)
    else:
        cube = b.apply("mul", b.apply("mul", b.apply("mul", x, x, like=out), x, like=out), 0.044715, like=out)
        bell = b.apply("mul", b.apply("add", x, cube, like=out), math.sqrt(2 / math.pi), like=out)
        bell = b.apply("tanh", bell, like=out)
    half = b.apply("mul", x, 0.5, like=out)
    return b.apply("mul", half, b.apply("add", bell, 1.0, like=out), like=out)


@handles("silu")
def _silu(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, x = _value(node), args[0]
    return b.apply("mul", x, b.apply("sigmoid", x, like=out), like=out)


@handles("leaky_relu")
def _leaky_relu(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, x = _value(node), args[0]
    slope = float(args[1]) if len(args) > 1 else float(kwargs.get("negative_slope", 0.01))
    positive = b.apply("gt", x, 0.0, dtype=torch.bool, like=out)
    return b.apply("where", positive, x, b.apply("mul", x, slope, like=out), dtype=out.dtype, like=out)


@handles("elu")
def _elu(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out, x = _value(node), args[0]
    if out.dtype not in FLOATING or kwargs:
        return NotImplemented
    alpha, scale, input_scale = (float(v) for v in [*args[1:], *(1.0, 1.0, 1.0)[len(args) - 1 :]])
    negative = b.apply("expm1", b.apply("mul", x, input_scale, like=out), like=out)
    negative = b.apply("mul", negative, alpha * scale, like=out)
    below = b.apply("le", x, 0.0, dtype=torch.bool, like=out)
    return b.apply("where", below, negative, b.apply("mul", x, scale, like=out), dtype=out.dtype, like=out)


@handles("clone", "_to_copy", "contiguous", "lift_fresh_copy")
def _copy(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out = _value(node)
    device = kwargs.get("device")
    if device is not None and torch.device(device).type != b.device:
        return NotImplemented
    op = "identity" if args[0].dtype == out.dtype else "cast"
    return b.apply(op, args[0], dtype=out.dtype, like=out)


@handles("copy")
def _copy_into(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The functional form of an in-place copy: the source in the target's shape and dtype."""
    out = _value(node)
    return b.apply("identity" if args[1].dtype == out.dtype else "cast", args[1], dtype=out.dtype, like=out)


@handles(
    "full",
    "full_like",
    "zeros",
    "zeros_like",
    "ones",
    "ones_like",
    "new_zeros",
    "new_ones",
    "new_full",
    "scalar_tensor",
)
def _full(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    name, out = _short(node), _value(node)
    if name == "scalar_tensor":
        value = args[0]
    elif "full" in name:
        value = args[2] if name == "new_full" else args[1]
    else:
        value = 1 if "ones" in name else 0
    if isinstance(value, View) or not isinstance(value, bool | int | float):
        return NotImplemented
    number = b.cast(value, out.dtype)
    assert not isinstance(number, View)
    return b.constant(number, out.shape, out.dtype)


@handles("arange")
def _arange(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    out = _value(node)
    if out.dtype not in (torch.int32, torch.int64) or not all(isinstance(item, int) for item in args):
        return NotImplemented
    start, step = 0, 1
    if _overload(node) != "default":
        start = args[0]
        step = args[2] if len(args) > 2 else 1
    position: Item = b.index(out.shape, 0)
    if step != 1:
        position = b.apply("mul", position, step)
    if start:
        position = b.apply("add", position, start)
    return b.cast(position, out.dtype)


@handles("cat", "stack")
def _join(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Give the result memory of its own, and store each part straight into its slice."""
    out, parts = _value(node), args[0]
    axis = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.dim()
    if any(part.dtype not in DTYPES or 0 in part.shape for part in parts):
        return NotImplemented
    joined = b.define("join", out.shape, out.stride(), out.dtype)
    start = 0
    for part in parts:
        length = 1 if _short(node) == "stack" else part.shape[axis]
        window = joined.meta.narrow(axis, start, length)
        window = window.squeeze(axis) if _short(node) == "stack" else window
        start += length
        item = b.cast(part, out.dtype)
        assert isinstance(item, View)
        reference = item.reference()
        place = (joined.source, window.storage_offset(), tuple(window.stride()))
        b.define(
            "compute",
            part.shape,
            item.meta.contiguous().stride(),
            out.dtype,
            op="identity",
            operands=(reference,),
            place=place,
        )
    return joined
