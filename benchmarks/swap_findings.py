"""What the parts of benchmarks.swap share: the metrics' ids, how much is measured, and what has been found."""

from __future__ import annotations

import gc
import os
import time
from dataclasses import dataclass, field
from typing import Any

from analyzer.workload import Stepper, Workload, prepare, seed_everything
from benchmarks.contract import Missing, Promise, Ratio, Row
from benchmarks.swap_models import CASES
from optimizers.swap.fit import timeline_of
from optimizers.swap.moves import Tier
from optimizers.swap.plan import smallest_budget
from optimizers.swap.tracer import trace_step

PEAK, SECONDS = "peak_over_base_bytes", "step_seconds"
OVER_BUDGET, PEAK_ERROR, STEP_ERROR = "peak_over_budget", "peak_error", "step_error"
PLAN_SECONDS, EQUAL_BYTES = "plan_seconds", "equal_bytes"
NONE, BAR = "none", "bar"
_LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: rounds of samples, budgets a model, steps whose weights are compared, plans a budget."""

    rounds: int
    budgets: int
    steps: int
    plans: int


FULL = Effort(9, 20, 20, 15)
BRIEF = Effort(3, 2, 3, 5)


@dataclass
class Findings:
    """What has been measured so far."""

    rows: list[Row] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def absent(self) -> tuple[Missing, ...]:
        """Return the peers that were not measured, each with its reason."""
        return tuple(Missing(peer, why) for peer, why in self.missing.items())


def held_to_bar(promise: Promise, ours: float, bar: float, low: float, high: float) -> Row:
    """Return the row of a figure that is to stay under a bar; low, high: where the figure lies, from best to worst.

    The ratio is above 1 where the bar is kept.
    """
    ratio = Ratio(*(bar / max(value, _LEAST) for value in (ours, high, low)))
    return Row(promise.case, 1, promise.peer, promise.metric, ours, bar, ratio)


def conditions() -> dict[str, Any]:
    """Return when it is and how busy the machine is."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"measured": when, "load_average": round(os.getloadavg()[0], 1)}


def fresh(model: str) -> Workload:
    """Return the named training step, the same one each time."""
    seed_everything(0)
    workload = CASES[model]()
    prepare(workload)
    return workload


def budget_range(workload: Workload) -> tuple[int, int]:
    """Return the smallest budget that works, simulated, and the step's own peak; the workload takes a few steps."""
    tier = Tier("disk", 1e9, 1e9)
    trace = trace_step(Stepper(workload), 1)
    timeline = timeline_of(trace, (tier,), ("swap",)).timeline
    gc.collect()
    return smallest_budget(timeline, (tier,), ("swap",)), trace.peak_bytes
