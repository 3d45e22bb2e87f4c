"""Small training workloads that tests of placement run on several ranks."""

from __future__ import annotations

import os
import signal

import torch
from torch.nn import functional

from analyzer.workload import Arguments, Workload, seeded


class Odd(torch.nn.Module):
    """Odd sizes, a parameter of no dimension, one that is frozen, and two dtypes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(13, 31)
        self.second = torch.nn.Linear(31, 7, dtype=torch.float64)
        self.scale = torch.nn.Parameter(torch.tensor(0.5))
        self.frozen = torch.nn.Parameter(torch.randn(7), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(self.first(x)) * self.scale
        scores: torch.Tensor = self.second(hidden.double()) + self.frozen
        return scores


def _training(model: torch.nn.Module) -> Workload:
    def inputs(seed: int) -> Arguments:
        return (torch.randn(5, 13, generator=seeded(seed)),), {}

    def loss(output: torch.Tensor, batch: Arguments) -> torch.Tensor:
        return functional.cross_entropy(output, batch[0][0][:, :7].argmax(dim=1))

    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    return Workload(model=model, inputs=inputs, loss=loss, optimizer=optimizer, evaluate=lambda _: {"answer": 42.0})


def odd() -> Workload:
    """A model of all that is awkward to send."""
    return _training(Odd())


def dying() -> Workload:
    """Rank 1 is killed by the system in its fourth step."""
    workload = _training(Odd())
    steps = 0

    def forward(*_: object) -> None:
        nonlocal steps
        steps += 1
        if os.environ.get("RANK") == "1" and steps == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    workload.model.register_forward_pre_hook(forward)
    return workload


def own_step() -> Workload:
    """A step that nothing can look into."""
    workload = _training(Odd())
    workload.step = lambda model, batch: model(*batch[0]).sum()
    return workload


def unused() -> Workload:
    """A parameter that gets no gradient."""
    model = Odd()
    model.spare = torch.nn.Parameter(torch.zeros(3))
    return _training(model)
