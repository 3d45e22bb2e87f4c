"""The trial at the first call: equal answers in less time, and nothing that the caller could see."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from optimizers.fusion import backend_trial
from optimizers.fusion.backend_trial import try_out
from optimizers.fusion.timing import Comparison


@pytest.fixture(autouse=True)
def timed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Comparison]:
    """A clock that finds the compiled side twice as fast, or what a test puts in."""
    found = {"comparison": Comparison(0.002, 0.001, 2.0, 1.9, 2.1, 9)}

    def compare(first: Any, second: Any, budget_seconds: float, clear: float) -> Comparison:
        first(), second()
        return found["comparison"]

    monkeypatch.setattr(backend_trial, "compare", compare)
    return found


def _product(x: torch.Tensor, w: torch.Tensor) -> list[Any]:
    return [torch.tanh(x) * w, x.sum(), None, 3]


def test_equal_and_faster_is_kept() -> None:
    args = [torch.randn(3, 4), torch.nn.Parameter(torch.randn(4))]
    trial = try_out(_product, lambda x, w: [w * torch.tanh(x), x.sum(), None, 3], args, (), 0.1)
    assert trial.kind == "" and trial.comparison is not None and args[1].grad is None


def test_equal_and_slower_is_refused_with_the_figures(timed: dict[str, Comparison]) -> None:
    timed["comparison"] = Comparison(0.001, 0.002, 0.5, 0.4, 0.6, 9)
    trial = try_out(_product, _product, [torch.randn(3, 4), torch.randn(4)], (), 0.1)
    assert trial.kind == "not faster than eager here"
    assert trial.detail == "compiled 2 ms, eager 1 ms (0.50x, 95 % interval 0.40 to 0.60)"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda x, w: [torch.tanh(x) * w * 1.01, x.sum(), None, 3], "by "),
        (lambda x, w: [torch.tanh(x) * w, x.sum(), None, 4], "4 where eager has 3"),
        (lambda x, w: [torch.tanh(x) * w, x.sum(), None, True], "True where eager has 3"),
        (lambda x, w: [torch.tanh(x) * w, x.sum(), 1, 3], "1 where eager has None"),
        (lambda x, w: [(torch.tanh(x) * w)[:1], x.sum(), None, 3], "(1, 4) where eager has"),
        (lambda x, w: [torch.tanh(x) * w], "1 results where eager has 4"),
        (lambda x, w: [torch.tanh(x) * w / 0, x.sum(), None, 3], "NaN or infinities"),
    ],
)
def test_other_outputs_are_refused(wrong: Any, words: str) -> None:
    trial = try_out(_product, wrong, [torch.randn(3, 4), torch.randn(4) + 3], (), 0.1)
    assert trial.kind == "results differ from eager's" and trial.comparison is None
    assert words in trial.detail


def test_other_gradients_are_refused() -> None:
    def wrong(x: torch.Tensor, w: torch.Tensor) -> list[Any]:
        return [torch.tanh(x.detach()) * w + x - x.detach(), x.sum(), None, 3]

    args = [torch.randn(3, 4, requires_grad=True), torch.nn.Parameter(torch.randn(4) + 3)]
    trial = try_out(_product, wrong, args, (), 0.1)
    assert trial.kind == "results differ from eager's" and "by " in trial.detail


def test_what_is_written_and_drawn_is_put_back() -> None:
    def writes(x: torch.Tensor, count: torch.Tensor) -> list[torch.Tensor]:
        count.add_(1)
        return [x * torch.rand_like(x)]

    x, count = torch.randn(3), torch.zeros(2)
    state = torch.get_rng_state()
    for written in ((1,), None):
        assert try_out(writes, writes, [x, count], written, 0.1).kind == ""
    assert torch.equal(torch.get_rng_state(), state) and not count.any()


def test_writing_something_else_is_refused() -> None:
    trial = try_out(lambda x: [x.add_(1)], lambda x: [x.add_(2) - 1], [torch.randn(3)], (0,), 0.1)
    assert trial.kind == "results differ from eager's"


def test_writing_what_needs_gradients_is_left_to_eager() -> None:
    x = torch.randn(3, requires_grad=True)
    assert "writes an input that needs gradients" in try_out(_product, _product, [x, x], (0,), 0.1).kind


def test_gradient_of_rounding_noise_is_no_difference() -> None:
    noise = torch.full((3,), 1e-9)

    def eager(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        return [x * 3.0 + y * noise]

    def compiled(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        return [x * 3.0 - y * noise]

    args = [torch.randn(3, requires_grad=True) for _ in range(2)]
    assert try_out(eager, compiled, args, (), 0.1).kind == ""
