"""Entries of launches that behave and misbehave, for the tests of experiments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import torch

from analyzer.workload import Arguments, Workload, WorkloadError, prepare, seeded


class Affine(torch.nn.Module):
    """[rows, 7] -> ([rows, 5], number of rows); `spend` more products of the same size, thrown away."""

    def __init__(self, spend: int = 0, scale: float = 1.0) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(7, 5)
        self.spend = spend
        self.scale = scale
        self.register_buffer("large", torch.randn(300, 300, generator=seeded(3)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, int]:
        for _ in range(self.spend):
            torch.mm(self.large, self.large)
        return self.layer(x) * self.scale, x.shape[0]


def inputs(seed: int) -> Arguments:
    return (torch.randn(3, 7, generator=seeded(seed)),), {}


def affine(argument: dict[str, Any]) -> Workload:
    print("user code prints to standard output")
    workload = Workload(Affine(**argument), inputs, evaluate=lambda model: {"bias": float(model.layer.bias.sum())})
    prepare(workload)
    return workload


def trained(argument: dict[str, Any]) -> Workload:
    model = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Dropout(0.5), torch.nn.Linear(5, 1))
    workload = Workload(
        model,
        inputs,
        loss=lambda output, batch: (output**2).mean(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=argument.get("lr", 1e-3)),
    )
    prepare(workload)
    return workload


class Misbehaving(torch.nn.Module):
    """A model whose step goes wrong in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == "raises":
            raise ValueError("no such\nlayer")
        if self.how == "exits":
            print("last words", file=sys.stderr)
            sys.exit(3)
        if self.how == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "hangs":
            # A child of its own, as a data loader has: it must go as well.
            subprocess.Popen(["sleep", "600"])
            time.sleep(600)
        return x


def misbehaving(argument: dict[str, Any]) -> Workload:
    if argument["how"] == "refuses to build":
        raise WorkloadError("codebook.bin differs from its hash")
    workload = Workload(Misbehaving(argument["how"]), inputs)
    prepare(workload)
    return workload


def no_workload(argument: dict[str, Any]) -> int:
    return 7
