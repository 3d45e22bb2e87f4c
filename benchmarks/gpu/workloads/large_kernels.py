"""A workload of few large kernels: the device is busy nearly all of its step, so two clocks can be compared."""

from __future__ import annotations

import torch

from analyzer.workload import Workload, seeded

WIDTH = 4096


class LargeKernels(torch.nn.Module):
    """[rows, WIDTH] -> [rows, WIDTH]: products and activations of tens of megabytes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.nn.functional.gelu(layer(x)) + x
        return x


def workload(width: int = WIDTH) -> Workload:
    """A batch as large as the layers."""
    return Workload(
        model=LargeKernels(width), inputs=lambda seed: ((torch.randn(width, width, generator=seeded(seed)),), {})
    )
