"""The moves that a planner may choose from: each gap once, as a swap or a recomputation, whichever costs less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optimizers.swap.moves import Move, Recompute, Swap, Tier
from optimizers.swap.timeline import NANOSECONDS, Recipe, SwapError, Timeline

METHODS = ("swap", "recompute")


@dataclass(frozen=True)
class Candidates:
    """The gaps of a timeline that may be used, best first, and how.

    order:   indices into Timeline.gaps: the cheapest per byte first, then the largest size x gap.
    recipes: for each gap of the timeline, the recipe by which its buffer is made again; without one it is swapped.
    tier:    where what is swapped goes; "" where that depends on what else goes there.
    """

    timeline: Timeline
    order: tuple[int, ...]
    recipes: dict[int, Recipe]
    tier: str = ""

    def move(self, index: int) -> Move:
        """Return the gap's move: a swap is out for the whole gap, copied in when it is needed."""
        gap = self.timeline.gaps[index]
        if index in self.recipes:
            return Recompute(gap.buffer, gap.after, gap.before)
        return Swap(gap.buffer, gap.after, gap.after + 1, gap.before, gap.before, self.tier)


def check_allowed(allow: Sequence[str], tiers: Sequence[Tier]) -> None:
    """Raise SwapError where a method is unknown, or swaps are allowed with nowhere to go."""
    unknown = [word for word in allow if word not in METHODS]
    if unknown or not allow:
        raise SwapError(f"allow={tuple(allow)!r}: name at least one of {', '.join(METHODS)}, and nothing else")
    if "swap" in allow and not tiers:
        raise SwapError("swap is allowed but no tier is given; name one, or allow recompute alone")


def list_candidates(
    timeline: Timeline, tiers: Sequence[Tier], allow: Sequence[str], lane_price: float = 0.0
) -> Candidates:
    """Return each gap that an allowed method can use, with the method that costs less.

    A swap costs what its copies take beyond the gap, and its lanes' price; a recomputation its time.
    lane_price: seconds of step per second that a copy holds a lane, even if it hides: 0 where lanes are idle anyhow.
    The first tier stands for all: a plan fills it first.
    """
    sizes, idle = timeline.gap_sizes, timeline.gap_nanoseconds / NANOSECONDS
    cost = np.full(len(sizes), np.inf)
    if "swap" in allow:
        leaving = tiers[0].latency_seconds + sizes / tiers[0].out_bytes_per_second
        returning = tiers[0].latency_seconds + sizes / tiers[0].in_bytes_per_second
        moving = leaving + returning
        # No copy runs over the end of the step: a gap that wraps has two parts, one for each copy.
        head = timeline.starts[timeline.gap_rows[:, 2]] / NANOSECONDS
        tail = (timeline.starts[-1] - timeline.starts[timeline.gap_rows[:, 1] + 1]) / NANOSECONDS
        parted = np.maximum(leaving - tail, 0.0) + np.maximum(returning - head, 0.0)
        cost = np.where(timeline.gap_wraps, parted, np.maximum(moving - idle, 0.0)) + lane_price * moving
    recipes = {}
    if "recompute" in allow and timeline.recipes:
        for index, gap in enumerate(timeline.gaps):
            recipe = timeline.recipe_of.get((gap.buffer, gap.before))
            if recipe is not None and not gap.wraps and recipe.seconds < cost[index]:
                recipes[index] = recipe
                cost[index] = recipe.seconds
    order = np.lexsort((-sizes * idle, cost / sizes))
    usable = order[np.isfinite(cost[order])]
    alone = len(tiers) == 1 and tiers[0].capacity_bytes is None
    return Candidates(timeline, tuple(usable.tolist()), recipes, tiers[0].name if alone else "")
