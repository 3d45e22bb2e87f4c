"""What a budget would cost and what it would allow: predicted from timelines, never measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from analyzer.measurement import Estimate
from optimizers.plan import Refusal
from optimizers.swap.moves import Tier
from optimizers.swap.plan import NAME, SwapPlan, as_plan, plan, smallest_budget
from optimizers.swap.timeline import Buffer, SwapError, Timeline

POINTS = 12
MOST_BATCH = 1 << 20


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A budget and the quickest plan known that keeps it."""

    budget_bytes: int
    plan: SwapPlan


@dataclass(frozen=True, slots=True)
class LargestBatch:
    """The largest batch whose predicted step keeps a budget. `batch`: the estimate; `plan`: for exactly that batch."""

    batch: Estimate
    plan: SwapPlan


def time_curve(
    timeline: Timeline,
    tiers: Sequence[Tier],
    allow: Sequence[str] = ("swap", "recompute"),
    budgets: Sequence[int] | None = None,
) -> tuple[CurvePoint, ...]:
    """Return plans for rising budgets, no longer step for a larger one; a budget that cannot be kept is left out.

    budgets: bytes; by default POINTS from the smallest that works to the peak with nothing moved.
    A plan for a smaller budget also keeps a larger one: where it is the quicker, the larger budget gets it.
    """
    if budgets is None:
        low, high = smallest_budget(timeline, tiers, allow), timeline.peak_bytes
        budgets = [low + (high - low) * place // (POINTS - 1) for place in range(POINTS)]
    points: list[CurvePoint] = []
    for budget in sorted(set(budgets)):
        found = plan(timeline, budget, tiers, allow)
        best = points[-1].plan if points else None
        if isinstance(found, Refusal):
            continue
        if best is not None and best.simulation.step_seconds < found.simulation.step_seconds:
            found = as_plan(timeline, best.moves, tiers, budget)
        points.append(CurvePoint(budget, found))
    return tuple(points)


@dataclass(frozen=True, slots=True)
class BatchModel:
    """Two timelines of one workload at two batches; seconds and bytes in between and beyond go by a straight line."""

    small: Timeline
    small_batch: int
    large: Timeline
    large_batch: int

    def __post_init__(self) -> None:
        if not 1 <= self.small_batch < self.large_batch:
            raise SwapError(f"batches {self.small_batch} and {self.large_batch}: give two, the smaller one first")
        left, right = self.small, self.large
        if [event.name for event in left.events] != [event.name for event in right.events]:
            raise SwapError(f"the steps differ: {len(left.events)} events and {len(right.events)}, or other ops")
        for one, other in zip(left.buffers, right.buffers, strict=False):
            if (one.born, one.uses, one.released) != (other.born, other.uses, other.released):
                raise SwapError(f"buffer {one.index} is used otherwise at batch {self.large_batch}; use other batches")
        if len(left.buffers) != len(right.buffers):
            raise SwapError(f"the steps have {len(left.buffers)} and {len(right.buffers)} buffers; use other batches")

    def at(self, batch: int) -> Timeline:
        """Return the predicted timeline: bytes rounded up, and nothing less than 0."""
        share = (batch - self.small_batch) / (self.large_batch - self.small_batch)
        events = tuple(
            replace(one, seconds=max(one.seconds + share * (other.seconds - one.seconds), 0.0))
            for one, other in zip(self.small.events, self.large.events, strict=True)
        )
        buffers = tuple(
            self._buffer(one, other, batch) for one, other in zip(self.small.buffers, self.large.buffers, strict=True)
        )
        constant = self._bytes(self.small.constant_bytes, self.large.constant_bytes, batch)
        recipes = []
        for recipe in self.small.recipes:
            other = self.large.recipe_of.get((recipe.buffer, recipe.before))
            if other is not None and other.events == recipe.events:
                seconds = max(recipe.seconds + share * (other.seconds - recipe.seconds), 0.0)
                scratch = self._bytes(recipe.scratch_bytes, other.scratch_bytes, batch)
                recipes.append(replace(recipe, seconds=seconds, scratch_bytes=scratch))
        return Timeline(events, buffers, constant, tuple(recipes), (f"predicted for batch {batch}",)).check()

    def _buffer(self, one: Buffer, other: Buffer, batch: int) -> Buffer:
        return replace(
            one, bytes=self._bytes(one.bytes, other.bytes, batch), left_alone=one.left_alone or other.left_alone
        )

    def _bytes(self, small: int, large: int, batch: int) -> int:
        span = self.large_batch - self.small_batch
        return max(small + math.ceil((batch - self.small_batch) * (large - small) / span), 0)


def largest_batch(
    model: BatchModel,
    budget_bytes: int,
    tiers: Sequence[Tier],
    allow: Sequence[str] = ("swap", "recompute"),
    most: int = MOST_BATCH,
) -> LargestBatch | Refusal:
    """Return the largest batch up to `most` whose predicted step keeps the budget, found by bisection.

    The bisection takes it that a larger batch needs no less memory. Refuses, with the smallest budget that works, when
    not even a batch of 1 fits. How far the straight line is off shows only a run.
    """
    first = plan(model.at(1), budget_bytes, tiers, allow)
    if isinstance(first, Refusal):
        return Refusal(NAME, f"not even a batch of 1: {first.reason}")
    low, best = 1, first
    high = 2
    while high <= most and not isinstance(found := plan(model.at(high), budget_bytes, tiers, allow), Refusal):
        low, best, high = high, found, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        found = plan(model.at(middle), budget_bytes, tiers, allow)
        if isinstance(found, Refusal):
            high = middle
        else:
            low, best = middle, found
    basis = f"a straight line through batches {model.small_batch} and {model.large_batch}, simulated"
    return LargestBatch(Estimate(low, low, low, "items", basis), best)
