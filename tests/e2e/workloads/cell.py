"""A small unrolled LSTM: seconds to capture and to optimize, and surely faster when its small ops are fused."""

from __future__ import annotations

import time

import torch

from analyzer.workload import Workload, seeded

STEPS = 8
HIDDEN = 16


class Cell(torch.nn.Module):
    """[batch, steps, hidden] -> the last hidden state [batch, hidden]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(4 * HIDDEN, 2 * HIDDEN).uniform_(-0.25, 0.25))
        self.bias = torch.nn.Parameter(torch.zeros(4 * HIDDEN))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.new_zeros(x.shape[0], HIDDEN)
        c = x.new_zeros(x.shape[0], HIDDEN)
        for step in range(x.shape[1]):
            gates = torch.cat((x[:, step], h), dim=1) @ self.weight.t() + self.bias
            i, f, g, o = gates.chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return h


def workload() -> Workload:
    """One short sequence through the cell."""
    return Workload(model=Cell(), inputs=lambda seed: ((torch.randn(1, STEPS, HIDDEN, generator=seeded(seed)),), {}))


class Slow(torch.nn.Module):
    """Adds one, half a second later: long enough to watch, to cancel and to kill, without using the processor."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.5)
        return x * self.weight + 1


def slow() -> Workload:
    """A step of half a second."""
    return Workload(model=Slow(), inputs=lambda seed: ((torch.randn(5, 3, generator=seeded(seed)),), {}))
