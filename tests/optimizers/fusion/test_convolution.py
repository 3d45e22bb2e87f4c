"""Convolutions in fused programs: eager's results in eager's layouts, kernels of ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from optimizers.fusion import against_eager
from optimizers.fusion.capture import capture
from optimizers.fusion.convolution_layout import ORIGINAL, arranged
from optimizers.fusion.lower import lower
from optimizers.fusion.program import build_program
from tests.optimizers.fusion.interpreted import assert_fuses, assert_same, fused_module


class Branches(nn.Module):
    """1x1, depthwise, grouped, strided and dense convolutions, batch norm, pooling, a join of two branches, a head."""

    def __init__(self, channels: int, bias: bool) -> None:
        super().__init__()
        self.point = nn.Conv2d(3, 2 * channels, 1, bias=bias)
        self.depthwise = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels, bias=bias)
        self.norm = nn.BatchNorm2d(2 * channels)
        self.grouped = nn.Conv2d(2 * channels, 4 * channels, (3, 2), stride=2, padding=(2, 1), groups=2, bias=bias)
        self.halved = nn.Conv2d(2 * channels, 5, 1, stride=2, bias=bias)
        self.dense = nn.Conv2d(3, 2 * channels, 3, padding=2, dilation=2, bias=bias)
        self.head = nn.Linear(4 * channels, 3)
        with torch.no_grad():
            for value in (self.norm.running_mean, self.norm.running_var):
                assert value is not None
                value.uniform_(0.5, 2.0)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        left = torch.relu(self.norm(self.depthwise(torch.relu(self.point(x)))))
        both = left + self.dense(x)
        grouped = torch.cat([self.grouped(both), self.grouped(left)], 1).flatten(2).mean(2)
        pooled = functional.avg_pool2d(both, 3, 2, 1)
        return both, self.halved(both), pooled, self.head(grouped[:, : self.head.in_features])


@pytest.mark.parametrize(("channels", "bias"), [(1, True), (3, False), (9, True)])
def test_a_network_of_convolutions_gives_eagers_results_in_eagers_layouts(channels: int, bias: bool) -> None:
    torch.manual_seed(channels)
    fused = assert_fuses(Branches(channels, bias).eval(), torch.randn(2, 3, 7, 9))
    assert not any("convolution" in str(call.target) for call in _library(fused.runner.program))


def _library(program):
    calls = [program.lowered.calls[unit.number] for unit in program.units if unit.kind == "call"]
    return [call for call in calls if str(call.target).startswith("aten")]


@st.composite
def convolutions(draw):
    """(module, image) with sizes of every kind, the image in any of three layouts."""
    groups, inputs, results = (draw(st.integers(1, 4)) for _ in range(3))
    window = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    extents = [(w - 1) * d + draw(st.integers(1, 7)) for w, d in zip(window, dilation, strict=True)]
    torch.manual_seed(draw(st.integers(0, 99)))
    module = nn.Conv2d(
        groups * inputs, groups * results, window, draw(st.integers(1, 3)), draw(st.integers(0, 3)), dilation, groups,
        draw(st.booleans()),
    )  # fmt: skip
    image = torch.randn(draw(st.integers(1, 2)), groups * inputs, *extents)
    if draw(st.booleans()):
        module = module.to(memory_format=torch.channels_last)
    return module.eval(), image.transpose(2, 3).contiguous().transpose(2, 3) if draw(st.booleans()) else image


@settings(max_examples=40, deadline=None)
@given(convolutions())
def test_any_convolution_is_eagers(drawn) -> None:
    module, image = drawn
    assert_fuses(nn.Sequential(nn.ReLU(), module), image)


@pytest.mark.parametrize("sizes", [(1, 3, 1, 5), (1, 3, 5, 1), (2, 3, 1, 4)])
def test_an_image_of_one_row_can_be_flattened(sizes: tuple[int, ...]) -> None:
    fused = assert_fuses(nn.Sequential(nn.Conv2d(3, 10, 1), nn.ReLU(), nn.Flatten()).eval(), torch.randn(sizes))
    assert not _library(fused.runner.program)


def test_special_values_reach_what_they_reach_in_eager() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.ReLU(), nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.ReLU()).eval()
    image = torch.randn(1, 2, 6, 5)
    image[0, 0, 0, 0], image[0, 0, 4, 4], image[0, 1, 2, 2] = torch.inf, torch.nan, -torch.inf
    assert_fuses(module, image)


def test_weights_changed_in_place_by_any_means_are_seen() -> None:
    model, x = Branches(2, bias=True).eval(), torch.randn(1, 3, 7, 9)
    fused = fused_module(model, (x,))
    with torch.no_grad():
        fused(x)
        model.dense.weight.data.mul_(2.0)
        model.depthwise.weight.detach().numpy()[0, 0, 1, 1] = 3.0
        model.point.weight.add_(0.25)
        assert_same(fused(x), model(x))
    assert not fused.fallbacks


def test_a_graph_keeps_its_layout_where_it_must() -> None:
    def graph_of(model: nn.Module, x: torch.Tensor):
        with torch.no_grad():
            return capture(model.eval(), (x,), {})

    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Conv2d(3, 3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x).as_strided((3, 3), (3, 1))

    x = torch.randn(1, 3, 8, 8)
    free, bound = graph_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), x), graph_of(Folded(), x)
    assert arranged(free) is not free
    assert arranged(free, (ORIGINAL,)) is free
    assert arranged(bound) is bound
    double = graph_of(nn.Conv2d(3, 4, 3).double(), x.double())
    assert arranged(double) is double


def test_an_excluded_convolution_stays_with_aten() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    with torch.no_grad():
        captured = capture(model, (torch.randn(1, 3, 8, 8),), {})
    named = [node.name for node in captured.graph.graph.nodes if "convolution" in str(node.target)]
    with_kernel = build_program(lower(captured), "a test")
    without = build_program(lower(captured, named), "a test")
    assert [len(_library(program)) for program in (with_kernel, without)] == [0, 1]


def test_outputs_that_are_views_of_each_other_keep_eagers_memory() -> None:
    class Aliased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Conv2d(2, 3, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = torch.relu(self.inner(x))
            return y, y.flatten(1)

    x = torch.randn(1, 2, 6, 7)
    fused = assert_fuses(Aliased().eval(), x)
    with torch.no_grad():
        whole, flat = fused(x)
    assert whole.data_ptr() == flat.data_ptr()
    assert np.array_equal(whole.numpy().ravel(), flat.numpy().ravel())


def test_deep_networks_are_judged_by_float64_where_float32_differs_from_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = nn.Identity(), torch.randn(3, 5)

    def fused(x: torch.Tensor) -> torch.Tensor:
        return x * (1 + 3e-5)

    for errors, accepted in (((1e-5, 1e-5), True), ((5e-5, 1e-5), False), (None, False)):
        monkeypatch.setattr(against_eager, "errors_against_float64", lambda *_, errors=errors: errors)
        assert (not against_eager.verify(model, fused, (x,), {}, None).reason) is accepted
        assert against_eager.verify(model, fused, (x,), {}, 1e-6).reason
    for errors, accepted in (((2.4e-3, 2e-3), True), ((1.5e-3, 2e-3), False), ((4.5e-3, 2e-3), False)):
        monkeypatch.setattr(against_eager, "errors_against_float64", lambda *_, errors=errors: errors)
        assert (not against_eager.verify(model, lambda x: x * (1 + 4e-3), (x,), {}, None).reason) is accepted
    monkeypatch.setattr(against_eager, "errors_against_float64", lambda *_: (0.0, 1.0))
    assert "NaN" in against_eager.verify(model, lambda x: x * torch.nan, (x,), {}, None).reason
