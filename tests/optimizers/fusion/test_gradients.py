"""Backward ops as kernels: ATen's own results, at special values too."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch

from optimizers.fusion import capture
from optimizers.fusion.backend_aot import training_decompositions
from tests.optimizers.fusion.interpreted import Function, assert_same, fused_module

aten = torch.ops.aten
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 3.0, -3.0, 6.0, 20.0, -20.0, math.inf, -math.inf, math.nan, 1e-30, -1e-30]


@pytest.fixture(autouse=True)
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Capture as the torch.compile backend does: backward ops stay whole, for the handlers under test."""
    monkeypatch.setattr(capture, "decompositions", training_decompositions)


def _floats(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _check(function: Any, *args: torch.Tensor, library: bool = False) -> None:
    model = Function(function)
    with torch.no_grad():
        fused = fused_module(model, args)
        assert_same(fused(*args), model(*args))
    assert not fused.fallbacks
    called = {str(call.target) for call in fused.runner.program.lowered.calls}
    assert library or not called, called


POINTWISE = {
    "relu": lambda g, x: aten.threshold_backward(g, x, 0),
    "threshold": lambda g, x: aten.threshold_backward(g, x, 0.5),
    "tanh": aten.tanh_backward,
    "sigmoid": aten.sigmoid_backward,
    "silu": aten.silu_backward,
    "hardtanh": lambda g, x: aten.hardtanh_backward(g, x, -1.0, 3.0),
    "leaky relu": lambda g, x: aten.leaky_relu_backward(g, x, 0.1, False),
    "elu": lambda g, x: aten.elu_backward(g, 1.5, 1.2, 0.7, False, x),
    "elu of its result": lambda g, x: aten.elu_backward(g, 1.5, 1.2, 0.7, True, x),
    "gelu": aten.gelu_backward,
    "gelu by tanh": lambda g, x: aten.gelu_backward(g, x, approximate="tanh"),
    "dropout": lambda g, x: aten.native_dropout_backward(g, x > 0, 1.25),
    "squared error": lambda g, x: aten.mse_loss_backward(g.sum() * 0.1, x, g, 1),
    "squared error, each": lambda g, x: aten.mse_loss_backward(g, x, g * 2, 0),
}


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_backward_is_atens(name: str) -> None:
    _check(POINTWISE[name], _floats(7, 5), 3 * _floats(7, 5, seed=1))
    _check(POINTWISE[name], _floats(7, 5), 3 * _floats(5, 7, seed=1).t())


@pytest.mark.parametrize("name", ["relu", "threshold", "hardtanh", "leaky relu", "tanh", "sigmoid"])
def test_special_values_propagate_as_in_aten(name: str) -> None:
    x = torch.tensor(SPECIAL)
    _check(POINTWISE[name], torch.ones_like(x), x)
    _check(POINTWISE[name], x, torch.full_like(x, 0.25))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_backward_is_atens(axis: int) -> None:
    g, x = _floats(4, 3, 5), _floats(4, 3, 5, seed=1)
    for rows in (x.softmax(axis), x.softmax(axis).transpose(0, 1).contiguous().transpose(0, 1)):
        _check(lambda g, y: aten._softmax_backward_data(g, y, axis, torch.float32), g, rows)
    _check(lambda g, y: aten._log_softmax_backward_data(g, y, axis, torch.float32), g, x.log_softmax(axis))


@pytest.mark.parametrize(("shape", "affine"), [((6, 5), True), ((2, 3, 5), False), ((5,), True), ((1, 5), True)])
def test_layer_norm_backward_is_atens(shape: tuple[int, ...], affine: bool) -> None:
    g, x = _floats(*shape), _floats(*shape, seed=1)

    def alone(g: torch.Tensor, x: torch.Tensor) -> list[Any]:
        y, mean, scale = aten.native_layer_norm(x, [5], None, None, 1e-5)
        return [y, aten.native_layer_norm_backward(g, x, [5], mean, scale, None, None, [True, False, False])[0]]

    def with_weights(g: torch.Tensor, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> list[Any]:
        _, mean, scale = aten.native_layer_norm(x, [5], w, b, 1e-5)
        return list(aten.native_layer_norm_backward(g, x, [5], mean, scale, w, b, [True, True, True]))

    if affine:
        _check(with_weights, g, x, _floats(5, seed=2), _floats(5, seed=3))
    else:
        _check(alone, g, x)


@pytest.mark.parametrize("reduction", [0, 1, 2])
def test_squared_error_is_atens(reduction: int) -> None:
    _check(lambda x, y: aten.mse_loss(x, y, reduction) * 2, _floats(4, 5), _floats(4, 5, seed=1))


def _slice_backward(shape: list[int], axis: int, start: int, end: int, g: torch.Tensor) -> torch.Tensor:
    return aten.slice_backward(torch.tanh(g), shape, axis, start, end, 1)  # type: ignore[no-any-return]


def _select_backward(shape: list[int], axis: int, position: int, g: torch.Tensor) -> torch.Tensor:
    return aten.select_backward(torch.tanh(g), shape, axis, position)  # type: ignore[no-any-return]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gradients_of_slices_stand_in_zeros(axis: int) -> None:
    shape = [4, 5, 3]
    for start, end in ((0, 2), (1, 3), (-2, 9), (0, 9)):
        length = len(range(*slice(start, end).indices(shape[axis])))
        part = [length if k == axis % 3 else n for k, n in enumerate(shape)]
        _check(partial(_slice_backward, shape, axis, start, end), _floats(*part))
    part = [n for k, n in enumerate(shape) if k != axis % 3]
    for position in (0, 2, -1):
        _check(partial(_select_backward, shape, axis, position), _floats(*part))


def test_steps_and_empty_slices_are_left_to_aten() -> None:
    _check(lambda g: aten.slice_backward(torch.tanh(g), [6, 3], 0, 0, 6, 2), _floats(3, 3), library=True)
    _check(lambda g: (aten.slice_backward(g[:0], [6, 3], 0, 2, 2, 1), torch.tanh(g)), _floats(2, 3), library=True)
