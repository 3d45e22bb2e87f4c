"""Pooling becomes part of regions where windows are small and unpadded, and stays with the library elsewhere."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.optimizers.fusion.interpreted import assert_fuses


def _images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("function", "stays"),
    [
        (lambda x: functional.max_pool2d(x, 2), 0),
        (lambda x: functional.max_pool2d(torch.relu(x), 3, stride=2), 0),
        (lambda x: functional.max_pool2d(x, (1, 2), stride=(2, 1)) * 2, 0),
        (lambda x: functional.avg_pool2d(x, 2).exp(), 0),
        (lambda x: functional.avg_pool2d(x, (3, 1), stride=1), 0),
        (lambda x: functional.max_pool2d(x, 3, padding=1) + 1, 1),
        (lambda x: functional.max_pool2d(x, 2, ceil_mode=True) + 1, 1),
        (lambda x: functional.avg_pool2d(x, 3, padding=1, count_include_pad=False) + 1, 1),
        (lambda x: functional.max_pool2d(x, 4) + 1, 1),
        (lambda x: [item + 1 for item in functional.max_pool2d(x, 2, return_indices=True)], 1),
    ],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pooling_is_eagers(function: Any, stays: int, layout: torch.memory_format) -> None:
    fused = assert_fuses(function, _images(2, 3, 7, 9).contiguous(memory_format=layout))
    assert fused.runner.program.library_calls == stays


@pytest.mark.parametrize("step", [1, 2])
def test_padded_averages_are_kernels_with_channels_last(step: int) -> None:
    x = _images(2, 5, 7, 9).contiguous(memory_format=torch.channels_last)
    fused = assert_fuses(lambda x: functional.avg_pool2d(x, 3, stride=step, padding=1) + 1, x)
    assert fused.runner.program.library_calls == 0


def test_special_values_pass_through_pooling() -> None:
    x = _images(1, 1, 4, 4)
    x[0, 0, 0, 0], x[0, 0, 2, 2], x[0, 0, 1, 3] = math.nan, math.inf, -math.inf
    x[0, 0, :2, 2:] = -math.inf
    assert_fuses(lambda x: functional.max_pool2d(x, 2) * 1, x)


def test_normalisation_activation_and_pooling_are_one_region_after_the_convolution() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.MaxPool2d(2)
    ).eval()
    fused = assert_fuses(model, _images(2, 3, 8, 8))
    # The others: the image with channels last, the convolution, scale and shift of each channel.
    assert fused.runner.program.kernel_calls == 4 and fused.runner.program.library_calls == 0
