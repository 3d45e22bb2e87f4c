"""Programs drawn at random: any mix of pointwise ops, views, reductions, joins and products equals eager."""

from __future__ import annotations

import random
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.optimizers.fusion.interpreted import Function, fused_module

EXTENTS = (1, 2, 3, 4)


class RandomProgram:
    """A function of three tensors whose steps are drawn from a seed; it draws the same steps at every call."""

    def __init__(self, seed: int, steps: int) -> None:
        self.seed = seed
        self.steps = steps

    def __call__(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        draw = random.Random(self.seed)
        tensors = list(inputs)
        for _ in range(self.steps):
            made = self._step(draw, tensors)
            if made.numel() <= 400:
                tensors.append(made)
        count = draw.randint(1, 4)
        return [tensors[-1], *(draw.choice(tensors) for _ in range(count))]

    def _step(self, draw: random.Random, tensors: list[torch.Tensor]) -> torch.Tensor:
        x = draw.choice(tensors[-6:])
        kind = draw.choice(
            ("unary", "unary", "binary", "binary", "binary", "view", "view", "reduce", "join", "product", "normalise")
        )
        axis = draw.randrange(x.dim()) if x.dim() else 0
        if kind == "unary":
            return draw.choice((torch.tanh, torch.sigmoid, torch.relu, torch.neg, torch.abs, torch.sin))(x)
        if kind == "binary":
            return self._binary(draw, x, tensors)
        if kind == "view" and x.dim():
            return self._view(draw, x, axis)
        if kind == "reduce" and x.dim():
            axes = draw.sample(range(x.dim()), draw.randint(1, x.dim()))
            return draw.choice((torch.sum, torch.mean, torch.amax))(x, axes, keepdim=draw.random() < 0.5)
        if kind == "join" and x.dim():
            y = torch.tanh(x) if draw.random() < 0.5 else x
            return draw.choice((torch.cat, torch.stack))([x, y, x], dim=axis)
        if kind == "product" and x.dim() >= 2:
            return torch.tanh(x @ x.transpose(-1, -2))
        if kind == "normalise" and x.dim():
            return draw.choice((torch.softmax, torch.log_softmax, lambda x, axis: x - x.mean(axis, keepdim=True)))(
                x, axis
            )
        return x * 0.5

    def _binary(self, draw: random.Random, x: torch.Tensor, tensors: list[torch.Tensor]) -> torch.Tensor:
        fitting = [y for y in tensors if _broadcasts(x, y)]
        y = draw.choice(fitting)
        op = draw.choice((torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum))
        return op(x, y) if draw.random() < 0.8 else torch.where(x > y, x, y)

    def _view(self, draw: random.Random, x: torch.Tensor, axis: int) -> torch.Tensor:
        kind = draw.choice(("permute", "reshape", "slice", "select", "expand", "chunk", "flatten", "step", "unsqueeze"))
        if kind == "permute":
            return x.permute(draw.sample(range(x.dim()), x.dim()))
        if kind == "reshape":
            return x.reshape(x.shape[axis], -1) if draw.random() < 0.5 else x.reshape(-1, x.shape[axis])
        if kind == "slice":
            return x.narrow(axis, x.shape[axis] // 2, x.shape[axis] - x.shape[axis] // 2)
        if kind == "select":
            return x.select(axis, draw.randrange(x.shape[axis]))
        if kind == "expand":
            return x.unsqueeze(0).expand(3, *x.shape) if x.dim() < 4 else x
        if kind == "chunk":
            return x.chunk(2, dim=axis)[-1]
        if kind == "step":
            return x[(slice(None),) * axis + (slice(None, None, 2),)]
        return x.flatten() if kind == "flatten" else x.unsqueeze(axis)


def _broadcasts(x: torch.Tensor, y: torch.Tensor) -> bool:
    return all(a == b or 1 in (a, b) for a, b in zip(reversed(x.shape), reversed(y.shape), strict=False))


def check(seed: int, steps: int, extents: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b, c = extents
    inputs = tuple(torch.randn(shape, generator=generator) for shape in ((a, b, c), (b, c), (c, 1)))
    model = Function(RandomProgram(seed, steps))
    with torch.no_grad():
        reference: Any = model(*inputs)
        fused = fused_module(model, inputs)
        for _ in range(2):
            # A floor, since a program may subtract equal numbers and return rounding errors.
            torch.testing.assert_close(fused(*inputs), reference, rtol=1e-4, atol=1e-5)
    assert not fused.fallbacks


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**9), st.integers(1, 25), st.lists(st.sampled_from(EXTENTS), min_size=3, max_size=3))
def test_random_program_equals_eager(seed: int, steps: int, extents: list[int]) -> None:
    check(seed, steps, extents)
