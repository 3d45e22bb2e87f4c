from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jvp, vmap

from analyzer.errors import HotbenchError
from optimizers.quantization.compressed import CODEBOOK, INT8
from tests.optimizers.quantization.test_modules import swapped

LAYERS = ((nn.Linear(7, 5), (3, 7)), (nn.Conv2d(3, 5, 2), (2, 3, 6, 4)), (nn.LSTM(7, 5), (4, 2, 7)))


def first(found: Any) -> torch.Tensor:
    result: torch.Tensor = found[0] if isinstance(found, tuple) else found
    return result


@pytest.mark.parametrize("method", [INT8, CODEBOOK])
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: type(value).__name__)
def test_derivatives_are_refused_however_they_are_asked_for(
    layer: nn.Module, shape: tuple[int, ...], method: str
) -> None:
    small, x = swapped(layer, method), torch.randn(shape)

    def compute(value: torch.Tensor) -> torch.Tensor:
        return first(small(value))

    def total(value: torch.Tensor) -> torch.Tensor:
        return compute(value).sum()

    asked: tuple[Callable[[], Any], ...] = (
        lambda: small(x.clone().requires_grad_()),
        lambda: grad(total)(x),
        lambda: vmap(grad(total))(torch.stack([x, x])),
        lambda: grad(lambda value: vmap(compute)(torch.stack([value, value])).sum())(x),
        lambda: jvp(compute, (x,), (x,)),
        lambda: jvp(vmap(compute), (torch.stack([x, x]),), (torch.stack([x, x]),)),
    )
    for call in asked:
        with pytest.raises(HotbenchError, match="has no (gradient|derivative); call the model") as caught:
            call()
        assert "\n" not in str(caught.value)
    with torch.no_grad():
        plain = compute(x)
        assert torch.equal(compute(x.clone().requires_grad_()), plain)
        if not isinstance(layer, nn.LSTM):
            assert torch.equal(vmap(compute)(torch.stack([x, x]))[1], plain)


def test_layers_before_the_first_trained_weight_are_constants_of_a_gradient() -> None:
    trained = nn.Linear(4, 3)
    model, x = nn.Sequential(swapped(nn.Linear(6, 4), INT8), trained), torch.randn(2, 6)
    weights = {"1.weight": trained.weight.detach()}
    found = grad(lambda given: functional_call(model, given, (x,)).sum())(weights)["1.weight"]
    model(x).sum().backward()
    assert trained.weight.grad is not None and torch.allclose(found, trained.weight.grad)
