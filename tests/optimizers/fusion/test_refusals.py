"""Windows onto the caller's memory, where another view would be read wrongly; modules that have several names."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from optimizers.fusion.capture import UnfusableError, capture
from tests.optimizers.fusion.interpreted import Function, assert_same, fused_module

Window = Callable[[torch.Tensor], torch.Tensor]


def view(offset: int) -> torch.Tensor:
    return torch.arange(60.0).cos()[offset : offset + 12].view(3, 4)


@pytest.mark.parametrize(
    "window",
    [
        lambda x: x.as_strided((2, 3), (4, 1)),
        lambda x: x[1:].as_strided((2, 3), (4, 1)),
        lambda x: (x * 2).as_strided((2, 3), (4, 1), 1),
        lambda x: (x * 2)[1:].as_strided((2, 3), (4, 1), 0),
        lambda x: (x * 2).as_strided((2, 3), (4, 1), (x * 2)[1:].storage_offset()),
    ],
)
@pytest.mark.parametrize("first", [0, 7])
def test_windows_that_follow_the_tensor_are_right_for_every_view(window: Window, first: int) -> None:
    fused = fused_module(Function(lambda x: window(x).tanh() + 1), (view(first),))
    for offset in (0, 7, 13):
        with torch.no_grad():
            assert_same(fused(view(offset)), fused.original(view(offset)))
    assert not fused.fallbacks


@pytest.mark.parametrize(
    "window",
    [
        lambda x: x.as_strided((2, 3), (4, 1), 0),
        lambda x: x.view(12)[2:].as_strided((3,), (1,), 9),
        lambda x: x.detach().t().as_strided((2, 3), (4, 1), 1),
    ],
)
def test_windows_from_an_offset_into_storage_are_refused(window: Window) -> None:
    with pytest.raises(UnfusableError, match="input 0 by as_strided from an offset into its storage"):
        capture(Function(lambda x: window(x).tanh() + 1), (view(3),), {})
    weight = nn.Parameter(torch.arange(40.0)[5:17].view(3, 4), requires_grad=False)
    with pytest.raises(UnfusableError, match=r"forward reads \w+ by as_strided from an offset into its storage"):
        capture(Function(lambda x, w: window(w).sum() + x, w=weight), (view(0),), {})


def test_windows_beyond_the_tensor_are_refused() -> None:
    with pytest.raises(UnfusableError, match="beyond input 0 by as_strided"):
        capture(Function(lambda x: x.as_strided((13,), (1,)).tanh()), (view(0),), {})
    capture(Function(lambda x: x.as_strided((12,), (1,)).tanh()), (view(0),), {})


@pytest.mark.parametrize("hidden", [False, True])
def test_forward_that_reads_the_offset_of_an_input_is_refused(hidden: bool) -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        try:
            return x * float(x[1:].storage_offset())
        except Exception:
            if not hidden:
                raise
            return x * 4.0

    with pytest.raises(UnfusableError, match="reads the storage offset of an input"):
        capture(Function(forward), (view(0),), {})


class Shared(nn.Module):
    """One module under two names, one weight in two modules, and one tensor that is a buffer too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.BatchNorm1d(8))
        self.again = self.first
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.first[0].weight
        self.register_buffer("seen", self.first[0].bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.tied(self.again(self.first(x)))) * self.seen


def test_a_module_under_two_names_is_fused_and_keeps_its_weights() -> None:
    torch.manual_seed(3)
    model, x = Shared().eval(), torch.randn(5, 8)
    before = dict(model.named_parameters(remove_duplicate=False))
    fused = fused_module(model, (x,))
    after = dict(model.named_parameters(remove_duplicate=False))
    assert before.keys() == after.keys() and all(before[name] is after[name] for name in before)
    with torch.no_grad():
        for _ in range(2):
            assert_same(fused(x), model(x))
            model.first[0].weight.mul_(1.5)
        assert not fused.fallbacks
        model.again = nn.Identity()
        assert_same(fused(x), model(x))
    assert fused.fallbacks == {"other submodules": 1}
