"""Every pointwise op that fusion takes gives eager's values, NaN and infinities included."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tests.optimizers.fusion.interpreted import assert_fuses

SPECIAL = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.3, -2.7, 88.0, -120.0, 3e38, math.inf, -math.inf, math.nan, 1e-40])


def _floats(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


UNARY: dict[str, Callable[[torch.Tensor], Any]] = {
    "neg": torch.neg,
    "abs": torch.abs,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "log2": torch.log2,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "sin": lambda x: torch.sin(x.clamp(-100, 100)),
    "cos": lambda x: torch.cos(x.clamp(-100, 100)),
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "trunc": torch.trunc,
    "sign": torch.sign,
    "relu": torch.relu,
    "gelu": functional.gelu,
    "gelu tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.2),
    "elu": functional.elu,
    "hardtanh": functional.hardtanh,
    "relu6": functional.relu6,
    "clamp": lambda x: x.clamp(-0.5, 0.7),
    "clamp_min": lambda x: x.clamp_min(0.1),
    "clamp_max": lambda x: x.clamp(max=0.1),
    "square": torch.square,
    "pow 2": lambda x: x**2,
    "pow 3": lambda x: x**3,
    "pow 0.5": lambda x: x**0.5,
    "pow -0.5": lambda x: x**-0.5,
    "pow -1": lambda x: x**-1,
    "add scalar": lambda x: x + 2.5,
    "sub alpha": lambda x: torch.sub(x, x.flip(0), alpha=3),
    "rsub": lambda x: 1 - x,
    "div scalar": lambda x: x / 3,
    "div trunc": lambda x: torch.div(x, 3, rounding_mode="trunc"),
    "scalar div": lambda x: 3 / x,
    "isnan": torch.isnan,
    "isinf": torch.isinf,
    "isfinite": torch.isfinite,
    "compare scalar": lambda x: (x > 0.5, x <= 1, x == 0, x != 1),
    "logical_not": torch.logical_not,
    "softplus": functional.softplus,
    "hardswish": functional.hardswish,
    "hardsigmoid": functional.hardsigmoid,
    "mish": functional.mish,
    "nan_to_num": torch.nan_to_num,
    "to float64": lambda x: x.double() * 2,
    "masked_fill": lambda x: x.masked_fill(x > 0, -torch.inf),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.3),
    "lerp": lambda x: torch.lerp(x, x * 2, 0.3),
    "full_like": lambda x: torch.full_like(x, 3.0) + x,
    "dropout in eval mode": lambda x: functional.dropout(x, 0.5, training=False) + 1,
}


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unary_op_is_eagers(name: str, dtype: torch.dtype) -> None:
    function = UNARY[name]
    # ATen's vectorised gelu gives NaN for inf and inf for 3e38, where the right values are inf and 3e38.
    special = SPECIAL[~SPECIAL.isinf() & (SPECIAL != 3e38)] if name == "gelu" else SPECIAL
    assert_fuses(function, special.to(dtype))
    assert_fuses(function, _floats(3, 5, 7, dtype=dtype).transpose(0, 2))


BINARY: dict[str, Callable[..., Any]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "atan2": torch.atan2,
    "remainder": torch.remainder,
    "pow": lambda x, y: torch.pow(x.abs() + 0.1, y),
    "eq": torch.eq,
    "lt": torch.lt,
    "ge": torch.ge,
    "logical_and": torch.logical_and,
    "logical_xor": torch.logical_xor,
    "where": lambda x, y: torch.where(x > y, x, y),
    "clamp by tensors": lambda x, y: torch.clamp(x, y, y + 1),
}


@pytest.mark.parametrize("name", BINARY)
def test_binary_op_is_eagers(name: str) -> None:
    function = BINARY[name]
    assert_fuses(function, SPECIAL[:, None], SPECIAL[None, :].clone())
    assert_fuses(function, _floats(5, 1, 7), _floats(3, 1, seed=1).expand(3, 7))


INTEGERS: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "mul, wrapping": lambda x, y: x * y * 2_000_000_011,
    "sub scalar": lambda x, y: x - 3,
    "true division": lambda x, y: x / 7,
    "add float": lambda x, y: x + 0.5,
    "bitwise": lambda x, y: ((x & y) | 5, x ^ y, ~x),
    "compare with float": lambda x, y: (x > 0.5, y == x, x < y),
    "compare across dtypes": lambda x, y: x.int() < y.float(),
    "where": lambda x, y: torch.where(x > y, x, 0),
    "clamp": lambda x, y: x.clamp(-1, 2),
    "abs, neg, sign": lambda x, y: (x.abs(), -x, x.sign()),
    "to bool": lambda x, y: x.bool() & y.bool(),
    "bool arithmetic": lambda x, y: ((x > 0) * y, (x > 0).float() + 1, (x > 0) + (y > 0)),
    "arange": lambda x, y: torch.arange(2, 2 + 3 * x.shape[0], 3)[:, None] * x,
    "exp": lambda x, y: torch.exp(x * 0.1),
    "int32": lambda x, y: x.int() * 3 + y.int(),
    "shift and floor division": lambda x, y: (x << 1, x // 3),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_integer_and_bool_ops_are_eagers(name: str) -> None:
    generator = torch.Generator().manual_seed(3)
    x, y = (torch.randint(-5, 6, (4, 7), generator=generator) for _ in range(2))
    assert_fuses(lambda x, y: (INTEGERS[name](x, y), x + 1), x, y)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64, torch.int16, torch.uint8])
def test_unknown_dtype_stays_with_aten(dtype: torch.dtype) -> None:
    x = (torch.arange(12) % 5).to(dtype).reshape(3, 4)
    fused = assert_fuses(lambda x, y: (x * x + x, y + 1), x, _floats(3))
    assert fused.runner.program.library_calls == 2


def test_empty_tensors_stay_with_aten() -> None:
    assert_fuses(lambda x, y: (x * 2 + 1, y.exp()), torch.empty(0, 3), _floats(2))
    assert_fuses(lambda x, y: (x.sum(0), y.exp()), torch.empty(0, 3), _floats(2))


def test_zero_dimensional_tensors_fuse() -> None:
    assert_fuses(lambda x, y: (x * 2 + y, x.sum(), y.exp().mean()), torch.tensor(3.0), torch.tensor(-1.5))


def test_uneven_shapes_broadcast() -> None:
    assert_fuses(lambda a, b, c: a * b + c, _floats(3, 1, 5), _floats(7, 1), torch.tensor(2.0))


@st.composite
def _strided(draw: st.DrawFn) -> torch.Tensor:
    """A view of a random tensor: permuted, sliced with a step, or expanded."""
    shape = draw(st.lists(st.integers(1, 4), min_size=3, max_size=3))
    tensor = _floats(*(2 * extent + 1 for extent in shape), seed=draw(st.integers(0, 99)))
    for axis, extent in enumerate(shape):
        start, step = draw(st.integers(0, 1)), draw(st.integers(1, 2))
        tensor = tensor.narrow(axis, start, 2 * extent)[(slice(None),) * axis + (slice(None, None, step),)]
        tensor = tensor.narrow(axis, 0, extent)
    return tensor.permute(draw(st.permutations(range(3))))


@settings(max_examples=40, deadline=None)
@given(_strided(), st.sampled_from(["chunk", "slice", "transpose", "reshape", "expand", "select", "flatten", "unbind"]))
def test_views_between_pointwise_ops_are_followed(x: torch.Tensor, kind: str) -> None:
    def function(x: torch.Tensor) -> Any:
        y = torch.tanh(x) + 1
        if kind == "chunk":
            parts = y.chunk(2, dim=2)
            return parts[0] * 2 + parts[-1].sum()
        if kind == "slice":
            return y[1:, ::2] * x[1:, ::2] if x.shape[0] > 1 else y * 2
        if kind == "transpose":
            return (y.transpose(0, 2) * 3).transpose(1, 2) + 1
        if kind == "reshape":
            return y.reshape(-1, x.shape[0]) * 2 + 1
        if kind == "expand":
            return y[:, :1].expand(-1, 5, -1) * 2
        if kind == "select":
            return y[0] + y[-1] * y.select(2, 0).sum()
        if kind == "flatten":
            return (y.flatten(1) + 1).flatten() * 2
        return sum(part * k for k, part in enumerate(y.unbind(1)))

    # For expanded operands fake tensors predict another layout of the result than eager chooses; values are the same.
    assert_fuses(function, x, strides=kind != "expand")
