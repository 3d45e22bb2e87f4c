"""What a budget would cost: predicted from timelines, never measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optimizers.plan import Refusal
from optimizers.swap.moves import Tier
from optimizers.swap.plan import SwapPlan, as_plan, plan, smallest_budget
from optimizers.swap.timeline import Timeline

POINTS = 12


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A budget and the quickest plan known that keeps it."""

    budget_bytes: int
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
