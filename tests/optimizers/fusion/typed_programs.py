"""Programs drawn at random over typed tensors in any layout, which a fused program must compute exactly as eager."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch

EXTENTS = (1, 2, 3, 5, 7)
FLOATS = (torch.float32, torch.float64)
INTEGERS = (torch.int32, torch.int64)
SPECIALS = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-40, -1e-45, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5)


def drawn_input(draw: random.Random, dtype: torch.dtype, shape: Sequence[int], specials: bool) -> torch.Tensor:
    """Return values in a drawn layout: dense, permuted, a slice of something larger, or expanded."""
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    kind = draw.choice(("dense", "permuted", "sliced", "stepped", "expanded"))
    sizes = list(shape)
    if kind == "sliced":
        sizes = [extent + 2 for extent in shape]
    if kind == "stepped":
        sizes = [2 * extent for extent in shape]
    order = draw.sample(range(len(shape)), len(shape))
    if kind == "permuted":
        sizes = [shape[axis] for axis in order]
    values = _values(draw, generator, dtype, sizes, specials)
    if kind == "permuted":
        return values.permute([order.index(axis) for axis in range(len(shape))])
    if kind == "sliced":
        return values[tuple(slice(1, 1 + extent) for extent in shape)]
    if kind == "stepped":
        return values[tuple(slice(None, None, 2) for _ in shape)]
    if kind == "expanded" and shape:
        return values[:1].expand(shape)
    return values


def _values(
    draw: random.Random, generator: torch.Generator, dtype: torch.dtype, sizes: Sequence[int], specials: bool
) -> torch.Tensor:
    if dtype == torch.bool:
        return torch.rand(sizes, generator=generator) < 0.5
    if dtype in INTEGERS:
        if not specials:
            return torch.randint(-9, 10, tuple(sizes), generator=generator, dtype=dtype)
        bounds = torch.iinfo(dtype)
        wide = torch.randint(bounds.min, bounds.max, tuple(sizes), generator=generator, dtype=dtype)
        return torch.where(torch.rand(sizes, generator=generator) < 0.3, wide, wide % 5)
    values = torch.randn(sizes, generator=generator, dtype=dtype)
    if specials and values.numel():
        flat = values.view(-1)
        for place in draw.sample(range(flat.numel()), max(1, flat.numel() // 4)):
            flat[place] = draw.choice(SPECIALS)
    return values


class TypedProgram:
    """A function whose steps are drawn from a seed; every op is exact, or within a rounding or two of eager's.

    What is compared, rounded or cast to integers is an input or made by exact ops alone: else a rounding decides.
    """

    def __init__(self, seed: int, steps: int, reductions: bool) -> None:
        self.seed, self.steps, self.reductions = seed, steps, reductions

    def __call__(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        draw = random.Random(self.seed)
        exact, pool = list(inputs), list(inputs)
        for _ in range(self.steps):
            made, is_exact = self._step(draw, exact, pool)
            if made.numel() <= 2000:
                pool.append(made)
                if is_exact:
                    exact.append(made)
        return [pool[-1], *(draw.choice(pool) for _ in range(draw.randint(1, 3)))]

    def _step(
        self, draw: random.Random, exact: list[torch.Tensor], pool: list[torch.Tensor]
    ) -> tuple[torch.Tensor, bool]:
        kind = draw.choice(("exact", "exact", "exact", "view", "rounded", "reduce", "join"))
        x = draw.choice(exact)
        if kind == "exact":
            return self._exact(draw, x, [y for y in exact if _broadcasts(x, y)]), True
        if kind == "view" and x.dim():
            axis = draw.randrange(x.dim())
            views = (
                lambda: x.transpose(0, axis),
                lambda: x.narrow(axis, x.shape[axis] // 2, x.shape[axis] - x.shape[axis] // 2),
                lambda: x.unsqueeze(axis),
                lambda: x.reshape(-1),
                lambda: x.select(axis, x.shape[axis] - 1),
            )
            return draw.choice(views)(), True
        if kind == "join" and x.dim():
            return torch.cat([x, x], draw.randrange(x.dim())), True
        y = draw.choice(pool)
        if kind == "reduce" and self.reductions and y.dim():
            return self._reduced(draw, y), False
        if y.dtype in FLOATS:
            return draw.choice((torch.tanh, torch.sigmoid, torch.erf, torch.exp, torch.rsqrt, torch.log1p))(y), False
        return y, False

    def _exact(self, draw: random.Random, x: torch.Tensor, others: list[torch.Tensor]) -> torch.Tensor:
        y = draw.choice(others)
        if x.dtype == torch.bool and y.dtype == torch.bool:
            return draw.choice((torch.logical_and, torch.logical_or, torch.logical_xor))(x, y)
        choice = draw.random()
        if choice < 0.15:
            return x.to(draw.choice((*FLOATS, *INTEGERS, torch.bool)))
        if choice < 0.35:
            return draw.choice((torch.eq, torch.ne, torch.lt, torch.le, torch.gt, torch.ge))(x, y)
        if choice < 0.5:
            condition = x if x.dtype == torch.bool else x != x
            return torch.where(condition, x, y)
        if x.dtype == torch.bool or y.dtype == torch.bool:
            return torch.where(y if y.dtype == torch.bool else x, torch.zeros_like(x), x)
        if choice < 0.7 and x.dtype in FLOATS:
            return draw.choice((torch.abs, torch.neg, torch.relu, torch.floor, torch.ceil, torch.round, torch.trunc))(x)
        if choice < 0.7:
            return draw.choice((torch.abs, torch.neg, torch.bitwise_not))(x)
        if x.dtype in INTEGERS and y.dtype in INTEGERS and choice < 0.8:
            return draw.choice((torch.bitwise_and, torch.bitwise_or, torch.bitwise_xor))(x, y)
        return draw.choice((torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum))(x, y)

    def _reduced(self, draw: random.Random, x: torch.Tensor) -> torch.Tensor:
        axes = draw.sample(range(x.dim()), draw.randint(1, x.dim()))
        keep = draw.random() < 0.5
        if x.dtype == torch.bool:
            return draw.choice((torch.any, torch.all))(x, axes[0], keepdim=keep)
        if x.dtype in FLOATS:
            return draw.choice((torch.sum, torch.amax, torch.amin, torch.mean))(x, axes, keepdim=keep)
        return draw.choice((torch.sum, torch.amax, torch.amin))(x, axes, keepdim=keep)


def _broadcasts(x: torch.Tensor, y: torch.Tensor) -> bool:
    return all(a == b or 1 in (a, b) for a, b in zip(reversed(x.shape), reversed(y.shape), strict=False))
