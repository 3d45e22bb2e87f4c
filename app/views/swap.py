"""What the page shows of a memory budget: what became of one, and what another one would cost, simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from analyzer.errors import HotbenchError, RecordError
from app.units import mebibytes

if TYPE_CHECKING:
    from analyzer.run import Run
    from optimizers.plan import Candidate
    from optimizers.swap.moves import Move, Tier
    from optimizers.swap.plan import SwapPlan
    from optimizers.swap.timeline import Timeline
    from optimizers.swap.views import CopyView, Course, SwapView

NAME = "swap"


@dataclass(frozen=True, slots=True)
class SwapProof:
    """A candidate's swap: what a page draws, and what was measured as it was fitted (plain values, by name)."""

    experiment: str
    view: SwapView
    decisions: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Point:
    """A budget and what a step would take with it, simulated."""

    budget_bytes: int
    step_seconds: float
    moves: tuple[Move, ...] = ()


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A captured step to plan for any budget; `curve` rises in budget. Copies as quick as this machine's folder is."""

    timeline: Timeline
    tiers: tuple[Tier, ...]
    allow: tuple[str, ...]
    curve: tuple[Point, ...]

    @property
    def peak_bytes(self) -> int:
        """Return the step's peak with nothing moved."""
        return self.timeline.peak_bytes

    @property
    def least_percent(self) -> int:
        """Return the smallest whole share of the peak that works, in percent."""
        least = self.curve[0].budget_bytes if self.curve else self.peak_bytes
        return min(ceil(100 * least / max(self.peak_bytes, 1)), 100)


@dataclass(frozen=True, slots=True)
class Simulated:
    """One budget, planned from the captured run: nothing of it is measured."""

    budget_bytes: int
    plan: SwapPlan
    before: Course
    after: Course
    lanes: tuple[CopyView, ...]

    @property
    def point(self) -> Point:
        """Return where it stands on the curve."""
        return point(self.budget_bytes, self.plan)


def point(budget_bytes: int, plan: SwapPlan) -> Point:
    """Return the budget with what its plan takes."""
    return Point(budget_bytes, plan.simulation.step_seconds, plan.moves)


def swap_proof(experiment: str, candidate: Candidate) -> SwapProof | None:
    """Return what a candidate keeps of its swap; None where it has none. Raises RecordError where it is damaged."""
    from optimizers.swap.views import decode_view

    for applied in candidate.applied:
        content = applied.blobs.get("swap_view.json")
        if applied.plan.optimizer == NAME and content is not None:
            return SwapProof(experiment, _checked(decode_view(content)), dict(applied.decisions))
    return None


def _checked(view: SwapView) -> SwapView:
    """Return the view where it can be drawn. Raises RecordError where its courses or lanes do not fit together."""
    for course in (view.before, view.predicted):
        count = len(course.starts_seconds)
        if any(len(line) != count for line in (course.total_bytes, *course.parts.values())):
            raise RecordError(f"swap_view.json: a course of {count} events has lines of other lengths; optimize again")
    if len(view.measured_bytes) not in (0, len(view.predicted.starts_seconds)):
        raise RecordError(
            f"swap_view.json: {len(view.measured_bytes)} measured events were not planned; optimize again"
        )
    if any(copy.direction not in ("in", "out") for copy in view.lanes):
        raise RecordError("swap_view.json: a copy goes neither in nor out; optimize again")
    return view


def what_if(run: Run, allow: Sequence[str], folder: str = "") -> WhatIf | str:
    """Return the run's step to plan for budgets, or in words why it cannot be."""
    from optimizers.swap.calibration import calibrate_folder
    from optimizers.swap.run_timeline import from_run
    from optimizers.swap.swap_file import swap_folder
    from optimizers.swap.what_if import time_curve

    if not run.training:
        return "The step does not train: nothing waits for a backward that could be moved."
    if run.device.kind != "cpu":
        return f"The run was captured on {run.device.kind}; budgets are kept on a CPU only."
    try:
        timeline = from_run(run)
        tiers = (calibrate_folder(swap_folder(folder or None)),) if "swap" in allow else ()
        points = time_curve(timeline, tiers, allow)
    except HotbenchError as error:
        return str(error)
    return WhatIf(timeline, tiers, tuple(allow), tuple(point(item.budget_bytes, item.plan) for item in points))


def simulate_budget(step: WhatIf, budget: str) -> Simulated | str:
    """Return the plan for a budget as users write it, or in words why there is none."""
    from optimizers.plan import Refusal
    from optimizers.swap.budget import read_budget
    from optimizers.swap.plan import as_plan, plan
    from optimizers.swap.views import CopyView, course

    timeline = step.timeline
    try:
        asked = read_budget(budget, step.peak_bytes)
        found = plan(timeline, asked, step.tiers, step.allow)
    except HotbenchError as error:
        return str(error)
    if isinstance(found, Refusal):
        least = step.curve[0].budget_bytes if step.curve else step.peak_bytes
        return f"{mebibytes(asked)} cannot be kept; the smallest budget that works here is {mebibytes(least)}"
    # A plan for a smaller budget also keeps this one; the curve has the quickest, and so has its point.
    smaller = [item for item in step.curve if item.budget_bytes <= asked]
    best = min(smaller, key=lambda item: item.step_seconds, default=None)
    if best is not None and best.step_seconds < found.simulation.step_seconds:
        found = as_plan(timeline, best.moves, step.tiers, asked)
    starts = (timeline.starts[:-1] / 1e9).tolist()
    before = course(timeline, (), timeline.live_bytes.tolist(), starts)
    after = course(timeline, found.moves, found.simulation.event_bytes, found.simulation.event_starts)
    lanes = tuple(
        CopyView(copy.buffer, copy.tier, copy.direction, copy.bytes, copy.start_seconds, copy.end_seconds)
        for copy in found.simulation.copies
    )
    return Simulated(asked, found, before, after, lanes)
