"""Fusing with compiled kernels: kept when faster, refused in words otherwise."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from optimizers.fusion import api
from optimizers.fusion.api import Fused, fuse, fuse_measured
from optimizers.fusion.module import FusedModule
from optimizers.fusion.timing import Comparison
from optimizers.plan import Refusal
from tests.optimizers.fusion.interpreted import Function, assert_same
from tests.optimizers.fusion.test_module import Recurrent


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_recurrent_model_is_kept_and_right_on_fresh_inputs() -> None:
    torch.manual_seed(0)
    model = Recurrent(16, 24)
    result = fuse_measured(model, (torch.randn(1, 20, 16),), {})
    assert isinstance(result, Fused)
    assert result.comparison.low > 1.0 and result.accuracy.max_rel < 1e-5
    assert result.against_float64 is not None and max(result.against_float64) < 1e-5
    x = torch.randn(1, 20, 16)
    with torch.no_grad():
        assert_same(result.module(x), model(x))
    assert "kernel calls" in result.module.summary and not result.module.fallbacks


@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_kernels_agree_with_eager_on_any_number_of_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    x, y = torch.randn(64, 65, 33), torch.randn(65, 1)
    model = Function(lambda x, y: (torch.tanh(x + y) * torch.sigmoid(x), (x * y).softmax(-1), (x - y).mean((0, 2))))
    fused = fuse(model, (x, y), min_gain=-100.0)
    assert isinstance(fused, FusedModule), fused
    with torch.no_grad():
        assert_same(fused(-x, y), model(-x, y))
        torch.set_num_threads(3 - threads)
        assert_same(fused(2 * x, y), model(2 * x, y))
    assert not fused.fallbacks


def test_model_with_nothing_to_fuse_is_refused() -> None:
    answer = fuse(torch.nn.Linear(4, 4, dtype=torch.float64), (torch.randn(2, 4, dtype=torch.float64),))
    assert isinstance(answer, Refusal) and "nothing to fuse" in answer.reason
    answer = fuse(torch.nn.Identity(), (torch.randn(2, 4),))
    assert isinstance(answer, Refusal) and "nothing to fuse" in answer.reason


def test_slower_program_is_refused_with_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "compare", lambda *_, **__: Comparison(0.0015, 0.00152, 0.987, 0.97, 1.01, 9))
    answer = fuse(Recurrent(5, 6), (torch.randn(1, 3, 5),))
    assert isinstance(answer, Refusal)
    assert "fused 1.52 ms, eager 1.5 ms (0.99x, 95 % interval 0.97 to 1.01)" in answer.reason


def test_gain_that_was_asked_for_is_demanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "compare", lambda *_, **__: Comparison(0.0015, 0.0012, 1.25, 1.2, 1.3, 9))
    answer = fuse(Recurrent(5, 6), (torch.randn(1, 3, 5),), min_gain=0.3)
    assert isinstance(answer, Refusal) and "a gain of 30% was asked for" in answer.reason


def test_outputs_beyond_the_tolerance_are_refused() -> None:
    answer = fuse(Recurrent(16, 24), (torch.randn(1, 20, 16),), max_error=1e-12)
    assert isinstance(answer, Refusal) and "do not agree with eager" in answer.reason


def test_gradients_flow_through_the_original() -> None:
    model = Recurrent(16, 24)
    fused = fuse(model, (torch.randn(1, 20, 16),))
    assert isinstance(fused, FusedModule)
    fused(torch.randn(1, 20, 16)).sum().backward()
    assert fused.fallbacks["gradients"] == 1


def test_value_dependent_model_is_refused_not_raised() -> None:
    answer = fuse(Function(lambda x: x * x.sum().item()), (torch.randn(3),))
    assert isinstance(answer, Refusal) and "tensor values" in answer.reason
