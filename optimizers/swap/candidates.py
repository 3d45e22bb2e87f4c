"""The moves that a planner may choose from: each gap once, as a swap or a recomputation, whichever costs less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimizers.swap.move_table import REMADE, MoveTable
from optimizers.swap.moves import Tier
from optimizers.swap.timeline import NANOSECONDS, Int64, SwapError, Timeline

METHODS = ("swap", "recompute")


@dataclass(frozen=True, eq=False)
class Candidates:
    """The gaps of a timeline that may be used, best first, and how.

    order:   indices into Timeline.gaps: the cheapest per byte first, then the largest size x gap.
    remade:  for each gap of the timeline, whether its buffer is made again; else it is swapped.
    tiers:   names of the tiers that swaps may go to.
    """

    timeline: Timeline
    order: Int64
    remade: NDArray[np.bool_]
    tiers: tuple[str, ...]

    @property
    def remakes(self) -> bool:
        """Return whether anything is made again."""
        return bool(self.remade.any())

    def table(self, chosen: Sequence[int]) -> MoveTable:
        """Return the gaps' moves: a swap is out for the whole gap, copied in when it is needed, in the first tier."""
        gaps = np.array(chosen, dtype=np.int64)
        buffer, after, before = self.timeline.gap_rows[gaps].T
        tier = np.where(self.remade[gaps], REMADE, 0)
        return MoveTable(np.stack((buffer, after, after + 1, before, before, tier), axis=1), self.tiers)

    def is_like(self, other: Candidates) -> bool:
        """Return whether both have the same gaps in the same order, used alike."""
        return np.array_equal(self.order, other.order) and np.array_equal(self.remade, other.remade)


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

    A swap costs what its copies take beyond the gap, their start, and its lanes' price; a recomputation its time.
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
        cost += 2 * tiers[0].issue_seconds
    remade = np.zeros(len(sizes), dtype=np.bool_)
    if "recompute" in allow:
        remade = timeline.gap_remaking_seconds < cost
        cost = np.where(remade, timeline.gap_remaking_seconds, cost)
    order = np.lexsort((-sizes * idle, cost / sizes))
    return Candidates(timeline, order[np.isfinite(cost[order])], remade, tuple(tier.name for tier in tiers))


def list_by_shape(timeline: Timeline, tiers: Sequence[Tier], allow: Sequence[str]) -> tuple[Candidates, ...]:
    """Return the gaps that an allowed method can use in orders that know of bytes and events, not of time.

    What can be kept by these does not depend on how busy the machine was.
    """
    rows, sizes, idle = timeline.gap_rows, timeline.gap_sizes, timeline.gap_events
    orders = (
        np.lexsort((rows[:, 0], -sizes * idle)),
        np.lexsort((rows[:, 0], -sizes)),
        np.lexsort((-rows[:, 0], -idle)),
    )
    remakable = np.isfinite(timeline.gap_remaking_seconds) & ("recompute" in allow)
    # Which gaps there are, and which of them are made again: all that can be, and where there is a choice none.
    ways = [(remakable | ("swap" in allow), remakable)]
    if "swap" in allow and remakable.any():
        ways.append((np.ones_like(remakable), np.zeros_like(remakable)))
    names = tuple(tier.name for tier in tiers)
    return tuple(
        Candidates(timeline, order[usable[order]], remade, names) for usable, remade in ways for order in orders
    )


def least_nanoseconds(candidates: Candidates, budget_bytes: int, tiers: Sequence[Tier]) -> int:
    """Return what a step takes at least that keeps the budget with some of the candidates, used as they say.

    At each event what is beyond the budget has left before, over lanes that are never idle, and returns after it; but
    for what is made again, and for gaps that wrap, whose buffers may begin the step in their tier.
    """
    timeline, order = candidates.timeline, candidates.order
    starts, count = timeline.starts, len(timeline.events)
    free = order[candidates.remade[order] | timeline.gap_wraps[order]]
    after, before = timeline.gap_rows[free, 1], timeline.gap_rows[free, 2]
    sizes = timeline.gap_sizes[free]
    away = np.zeros(count + 1, dtype=np.int64)
    np.add.at(away, after + 1, sizes)
    np.add.at(away, before, -sizes)
    # A gap that wraps is open when the step begins: its end comes before its begin.
    away[0] += sizes[before <= after].sum()
    moved = np.maximum(timeline.live_bytes - budget_bytes - np.cumsum(away)[:count], 0)
    out = sum(tier.out_bytes_per_second for tier in tiers) or np.inf
    back = sum(tier.in_bytes_per_second for tier in tiers) or np.inf
    earlier = np.maximum(starts[:-1], moved / out * NANOSECONDS)
    later = np.maximum(starts[-1] - starts[1:], moved / back * NANOSECONDS)
    least = earlier + timeline.nanoseconds + later
    return max(int(least.max(initial=0)), int(starts[-1]))
