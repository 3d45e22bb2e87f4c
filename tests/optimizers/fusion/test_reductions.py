"""Reductions and normalisations give eager's values along any axes, with what comes before and after in one region."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.optimizers.fusion.interpreted import Function, assert_fuses


def _floats(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


REDUCTIONS: dict[str, Callable[[torch.Tensor], Any]] = {
    "sum": lambda x: x.sum(),
    "sum of one axis": lambda x: (x.sum(1), x.sum(-1, keepdim=True), x.sum(0) * 2),
    "sum of two axes": lambda x: x.sum((0, 2)),
    "mean": lambda x: (x.mean(), x.mean((1, 2)), x.mean(0, keepdim=True)),
    "amax and amin": lambda x: (x.amax(2), x.amin((0, 1)), x.amax()),
    "any and all": lambda x: ((x > 2).any(), (x > -9).all(1), (x > 0).any(2, keepdim=True)),
    "variance": lambda x: (x.var(1), x.var((0, 2), unbiased=False), x.std(2)),
    "norm": lambda x: (x.norm(dim=1), torch.linalg.vector_norm(x, ord=1, dim=(0, 1)), functional.normalize(x, dim=2)),
    "softmax": lambda x: (x.softmax(2), x.softmax(0), x.log_softmax(1)),
    "softmax with scale and mask": lambda x: (x / 3 + (x > 0) * -2.0).softmax(-1) * 2,
    "logsumexp": lambda x: x.logsumexp(1),
    "centred": lambda x: x - x.mean(-1, keepdim=True) + x.amax(-1, keepdim=True),
    "sum of ones": lambda x: torch.ones_like(x).sum(1) + x.sum(1),
    "sum of integers": lambda x: ((x > 0).sum(1), x.long().sum(), x.long().amax(0)),
    "two levels": lambda x: x.softmax(2).sum(1).softmax(0),
    "broadcast back": lambda x: x * x.sum((0, 1), keepdim=True) / x.sum(),
    "layer norm without weights": lambda x: functional.layer_norm(x, x.shape[1:]),
    "product, argmax and cumsum stay": lambda x: (x.prod(1), x.argmax(2), x.cumsum(0) * 2),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduction_is_eagers(name: str) -> None:
    function = REDUCTIONS[name]
    assert_fuses(function, _floats(3, 5, 7))
    assert_fuses(function, _floats(7, 1, 3).expand(7, 4, 3).transpose(0, 2))


@pytest.mark.parametrize("value", [0.1, -1 / 3, 3.7, 1e5, 7.123e-3])
@pytest.mark.parametrize("width", [9, 384])
def test_layer_norm_and_variance_of_equal_values_are_exactly_zero(value: float, width: int) -> None:
    x = torch.full((3, width), value)
    fused = assert_fuses(lambda x: (functional.layer_norm(x, x.shape[-1:]), x.var(1), x.std(1, unbiased=False)), x)
    for ours, eagers in zip(fused(x), fused.original(x), strict=True):
        assert ours.abs().max() <= eagers.abs().max()


def test_an_outlier_costs_the_other_values_of_a_norm_nothing() -> None:
    x = _floats(4, 33)
    x[:, 5] = 1e6
    fused = assert_fuses(lambda x: functional.layer_norm(x, x.shape[-1:]), x)
    exact = functional.layer_norm(x.double(), x.shape[-1:])
    ours, eagers = (float((result - exact).abs().max()) for result in (fused(x), fused.original(x)))
    assert ours <= 2 * eagers + 1e-7


def test_special_values_pass_through_reductions() -> None:
    x = _floats(6, 4)
    x[0, 1], x[1, 2], x[2] = math.nan, math.inf, -math.inf
    x[3, 0], x[3, 1] = math.inf, -math.inf
    assert_fuses(lambda x: (x.sum(1), x.amax(1), x.amin(1), x.mean(1), x.softmax(1), x.log_softmax(1), x.var(1)), x)


def test_softmax_is_one_region() -> None:
    assert_fuses(lambda x, m: (x / 8 + m).softmax(-1), _floats(2, 3, 5, 7), _floats(2, 1, 1, 7), kernels=1)


def test_residual_and_layer_norm_are_one_region() -> None:
    model = Function(
        lambda x, y, w, b: functional.layer_norm(x + y, (6,), w, b, 1e-5), w=_floats(6, seed=2), b=_floats(6, seed=3)
    )
    assert_fuses(model, _floats(4, 5, 6), _floats(4, 5, 6, seed=1), kernels=1)


def test_batch_norm_in_eval_mode_is_eagers() -> None:
    norm = torch.nn.BatchNorm2d(5).eval()
    norm.running_mean.copy_(_floats(5))  # type: ignore[union-attr]
    norm.running_var.copy_(_floats(5, seed=1).abs() + 0.1)  # type: ignore[union-attr]
    fused = assert_fuses(torch.nn.Sequential(norm, torch.nn.ReLU()), _floats(2, 5, 3, 4))
    assert fused.runner.program.library_calls == 0


def test_bias_of_a_linear_layer_moves_into_the_region_after_it() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.GELU(), torch.nn.Linear(8, 3))
    fused = assert_fuses(model, _floats(4, 6))
    assert [str(call.target) for call in fused.runner.program.lowered.calls] == [
        "aten.mm.default",
        "aten.addmm.default",
    ]


def test_convolution_pooling_and_embedding_are_eagers() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.MaxPool2d(2)
    ).eval()
    assert_fuses(model, _floats(2, 3, 6, 6))
    embedding = torch.nn.Sequential(torch.nn.Embedding(11, 4), torch.nn.LayerNorm(4))
    assert_fuses(embedding, torch.arange(10).reshape(2, 5))


def test_channels_last_layout_is_kept() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.SiLU()).eval()
    model = model.to(memory_format=torch.channels_last)
    assert_fuses(model, _floats(2, 4, 7, 7).contiguous(memory_format=torch.channels_last))


def test_attention_is_eagers() -> None:
    attention = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
    model = Function(lambda x: attention(x, x, x, need_weights=True))
    model.attention = attention
    # Eager's one-kernel path gives the same values in another layout.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        assert_fuses(model, _floats(2, 5, 8))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_transformer_layer_is_eagers() -> None:
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True).eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        assert_fuses(layer, _floats(2, 5, 8))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
