"""Training steps that calibrate a machine: one that computes next to nothing, one that does nothing else, one of both.

They have nothing in common with the steps that predictions are checked by (benchmarks.placement_models).
"""

from __future__ import annotations

import os
from typing import Any

import torch

from analyzer.workload import Arguments, Workload, prepare

ITEM_BYTES = 4
BURDENS = ("products", "copies")


class Parameters(torch.nn.Module):
    """scale -> scale and the sum of all parameters: `tensors` of them, `size` bytes together."""

    def __init__(self, size: int, tensors: int) -> None:
        super().__init__()
        elements = max(size // ITEM_BYTES // tensors, 1)
        self.parts = torch.nn.ParameterList(torch.zeros(elements) for _ in range(tensors))

    def forward(self, scale: torch.Tensor) -> torch.Tensor:
        """Return a scalar that depends on every parameter."""
        total = scale
        for part in self.parts:
            total = total + part.sum()
        return total


class Load:
    """What keeps a core busy: `repeats` products of `width` square, or a copy of `size` bytes."""

    def __init__(self, width: int, repeats: int, size: int) -> None:
        self.product, self.matrix = torch.ones(width, width), torch.eye(width)
        self.repeats = repeats
        self.source, self.target = (torch.zeros(size, dtype=torch.uint8) for _ in range(2))

    @torch.no_grad()
    def carry(self, burden: int) -> None:
        """Return nothing; multiply or copy. burden: an index into BURDENS, or -1 for none."""
        if burden == BURDENS.index("products"):
            for _ in range(self.repeats):
                self.product = self.product @ self.matrix
        elif burden == BURDENS.index("copies"):
            self.target.copy_(self.source)


class Burdens(torch.nn.Module):
    """Which burden -> a scalar that learns; meanwhile the core multiplies, copies, or does nothing."""

    def __init__(self, load: Load) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.load = load

    def forward(self, burden: torch.Tensor) -> torch.Tensor:
        """Return the scale. burden: an index into BURDENS, or -1 for none."""
        self.load.carry(int(burden))
        return self.scale * 1.0


class _InBackward(torch.autograd.Function):
    """value, load, burden -> value; the load is carried when its gradient passes."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, load: Load, burden: int) -> torch.Tensor:
        ctx.load, ctx.burden = load, burden
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        ctx.load.carry(ctx.burden)
        return gradient, None, None


class Beside(torch.nn.Module):
    """Which burden -> a scalar. Backward makes one gradient of `size` bytes, then computes, then makes a small one."""

    def __init__(self, size: int, load: Load) -> None:
        super().__init__()
        self.last = torch.nn.Parameter(torch.zeros(()))
        self.first = torch.nn.Parameter(torch.zeros(max(size // ITEM_BYTES, 1)))
        self.load = load

    def forward(self, burden: torch.Tensor) -> torch.Tensor:
        """Return a scalar that depends on both parameters. burden: an index into BURDENS, or -1 for none."""
        # Backward goes through what was made last first.
        loaded: torch.Tensor = _InBackward.apply(self.last * 1.0, self.load, int(burden))  # type: ignore[no-untyped-call]
        return loaded + self.first.sum()


def exchange(argument: dict[str, Any]) -> Workload:
    """Return the step of {"bytes": gradients together, "tensors": how many}: its exchange is all that takes time."""
    model = Parameters(int(argument["bytes"]), int(argument.get("tensors", 1)))
    return _prepared(model, lambda _: ((torch.ones(()),), {}))


def burdens(argument: dict[str, Any]) -> Workload:
    """Return the step of {"width", "repeats", "bytes"}: products, or a copy, as the seed says (seed_of)."""
    model = Burdens(Load(int(argument["width"]), int(argument["repeats"]), int(argument["bytes"])))
    ranks = int(os.environ.get("WORLD_SIZE", "1"))

    def inputs(seed: int) -> Arguments:
        step, rank = divmod(seed, ranks)  # as Rank draws batches
        burden, alone = divmod(step, 2)
        return (torch.tensor(-1 if alone and rank else burden),), {}

    return _prepared(model, inputs)


def beside(argument: dict[str, Any]) -> Workload:
    """Return the step of {"exchanged": bytes, "width", "repeats", "bytes"}: seed i carries the burden of index i."""
    load = Load(int(argument["width"]), int(argument["repeats"]), int(argument["bytes"]))
    model = Beside(int(argument["exchanged"]), load)
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    return _prepared(model, lambda seed: ((torch.tensor(seed // ranks),), {}))


def seed_of(burden: str, alone: bool) -> int:
    """Return the seed for which rank 0, and without `alone` every rank, has this burden."""
    return 2 * BURDENS.index(burden) + alone


def _prepared(model: torch.nn.Module, inputs: Any) -> Workload:
    def loss(output: Any, batch: Arguments) -> torch.Tensor:
        found: torch.Tensor = output
        return found

    workload = Workload(model=model, inputs=inputs, loss=loss, optimizer=torch.optim.SGD(model.parameters(), lr=0.0))
    prepare(workload)
    return workload
