"""From the second call on a program is reached by a shorter way, on which nothing is overlooked."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from optimizers.fusion.module import FusedModule
from tests.optimizers.fusion.interpreted import assert_same, fused_module


class Scaled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(5))
        self.factor = 2.0

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x * self.weight + y) * self.factor


def _called() -> tuple[FusedModule, torch.Tensor, torch.Tensor]:
    """Return a fused module that was called once, and inputs."""
    x, y = torch.randn(3, 5), torch.randn(3, 5)
    fused = fused_module(Scaled(), (x, y))
    with torch.no_grad():
        fused(x, y)
    assert not fused.fallbacks
    return fused, x, y


def test_the_second_call_needs_no_full_check(monkeypatch: pytest.MonkeyPatch) -> None:
    fused, x, y = _called()
    monkeypatch.setattr(fused._guards, "check", lambda *_: pytest.fail("looked at in full"))
    with torch.no_grad():
        first, second = fused(x, y), fused(x + 1, y)
        assert_same(first, fused.original(x, y))
        assert_same(second, fused.original(x + 1, y))


def test_hooks_of_the_fused_module_itself_run() -> None:
    fused, x, y = _called()
    with torch.no_grad():
        expected = fused.original(x, y) + 1
        handle = fused.register_forward_hook(lambda _module, _inputs, output: output + 1)
        assert_same(fused(x, y), expected)
        handle.remove()
        before = fused.register_forward_pre_hook(lambda _module, inputs: (inputs[0] * 2, inputs[1]))
        assert_same(fused(x, y), fused.original(x * 2, y))
        before.remove()
        assert_same(fused(x, y), fused.original(x, y))
    assert not fused.fallbacks


def test_one_tensor_given_twice_is_no_reason_for_the_original() -> None:
    fused, x, y = _called()
    with torch.no_grad():
        assert_same(fused(x, x), fused.original(x, x))
        assert_same(fused(x, y), fused.original(x, y))
    assert not fused.fallbacks


@pytest.mark.parametrize("others", [("shape",), ("keyword",), ("shape", "keyword", "dtype", "count", "number")])
def test_other_arguments_are_told_from_those_before(others: tuple[str, ...]) -> None:
    fused, x, y = _called()
    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "shape": ((x[:2], y[:2]), {}),
        "keyword": ((x,), {"y": y}),
        "dtype": ((x.double(), y.double()), {}),
        "number": ((x, 1.5), {}),
    }
    with torch.no_grad():
        for other in others:
            if other == "count":
                with pytest.raises(TypeError):
                    fused(x)
                continue
            args, kwargs = calls[other]
            assert_same(fused(*args, **kwargs), fused.original(*args, **kwargs))
            assert_same(fused(x, y), fused.original(x, y))
    assert sum(fused.fallbacks.values()) == len(others), "each of these runs the original"


def test_a_weight_that_moves_is_read_at_its_new_place() -> None:
    fused, x, y = _called()
    with torch.no_grad():
        for _ in range(3):
            fused.original.weight.data = torch.randn(5)
            assert_same(fused(x, y), fused.original(x, y))
            fused.original.weight = torch.nn.Parameter(torch.randn(5))
            assert_same(fused(x, y), fused.original(x, y))
    assert not fused.fallbacks


def test_surroundings_of_the_second_call_are_seen() -> None:
    fused, x, y = _called()
    assert fused(x, y).requires_grad
    fused.original.requires_grad_(False)
    assert not fused(x, y).requires_grad and not fused(x, y).requires_grad
    assert fused(x.clone().requires_grad_(), y).requires_grad
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        fused(x, y)
    with torch.no_grad():
        torch.set_default_dtype(torch.float64)
        try:
            fused(x, y)
        finally:
            torch.set_default_dtype(torch.float32)
        fused.original.factor = 3.0
        assert_same(fused(x, y), fused.original(x, y))
    assert fused.fallbacks == {
        "gradients": 2,
        "autocast or another default dtype": 2,
        "another value of factor": 1,
    }


def test_a_compiled_call_of_the_module_is_kept() -> None:
    fused, x, y = _called()
    seen: list[Any] = []
    fused._compiled_call_impl = lambda *args: seen.append(args) or fused.original(*args)
    with torch.no_grad():
        fused(x, y)
    assert len(seen) == 1
