"""Small workloads whose length is known: what the verdict benchmark plants a slow-down into."""

from __future__ import annotations

import time
from typing import Any

import torch

from analyzer.launch import Launch
from analyzer.workload import Stepper, Workload, prepare, seeded

KINDS = ("small-ops", "products", "streams")
"""Bound by dispatch, by arithmetic, by memory."""


class Loop(torch.nn.Module):
    """`repeats` equal pieces of work in a row; `extra` more of them, whose result is thrown away."""

    def __init__(self, kind: str, repeats: int, extra: int) -> None:
        super().__init__()
        width = {"small-ops": 8, "products": 128, "streams": 512}[kind]
        self.kind, self.repeats, self.extra = kind, repeats, extra
        self.weight = torch.nn.Parameter(torch.randn(width, width, generator=seeded(1)) / width**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        for _ in range(self.repeats):
            x = self.piece(x)
        discarded = x.clone()
        for _ in range(self.extra):
            discarded = self.piece(discarded)
        return x

    def piece(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "streams":
            return x.add_(self.weight, alpha=1e-3)
        return torch.tanh(x @ self.weight)


def build(argument: dict[str, Any]) -> Workload:
    """Return the workload of {"kind", "repeats", "extra"}: the entry of this benchmark's launches."""
    model = Loop(argument["kind"], argument["repeats"], argument["extra"])
    width = model.weight.shape[0]
    workload = Workload(model, lambda seed: ((torch.randn(width, width, generator=seeded(seed)),), {}))
    prepare(workload)
    return workload


def launch(name: str, kind: str, repeats: int, extra: int = 0) -> Launch:
    """Return how one such workload is run, with one thread."""
    return Launch(name, "benchmarks.steps:build", {"kind": kind, "repeats": repeats, "extra": extra}, threads=1)


def repeats_for(kind: str, seconds: float) -> int:
    """Return how many pieces of work take `seconds` on this machine: a multiple of 20, for 5 % to be whole."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        repeats = 20
        for _ in range(3):
            stepper = Stepper(build({"kind": kind, "repeats": repeats, "extra": 0}))
            stepper.step()
            quickest = min(_seconds(stepper) for _ in range(5))
            repeats = max(20, round(seconds / (quickest / repeats) / 20) * 20)
    finally:
        torch.set_num_threads(threads)
    return repeats


def _seconds(stepper: Stepper) -> float:
    start = time.perf_counter()
    stepper.step()
    return time.perf_counter() - start
