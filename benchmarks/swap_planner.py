"""planner-5000…: how long a plan for a training step of 5,000 tensors takes, held to a bar of 50 ms.

With swaps alone, and with recomputation allowed as well. The step has activations that can be made again from one
another, and optimizer state; its budgets are shares of its peak, its tiers a fast link and a disk. Each plan is made
from a timeline that nothing has been computed of yet.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from analyzer.progress import Progress
from benchmarks.contract import Promise
from benchmarks.swap_findings import BAR, PLAN_SECONDS, Effort, Findings, conditions, held_to_bar
from optimizers.plan import Refusal
from optimizers.swap.moves import Tier
from optimizers.swap.plan import plan
from optimizers.swap.timeline import Buffer, Event, Recipe, Timeline

CASES = {"planner-5000-swap": ("swap",), "planner-5000": ("swap", "recompute")}
"""The methods that are allowed; both is what a fit allows by itself."""
TENSORS, STATE = 5000, 500
BAR_SECONDS = 0.05
SHARES = (0.8, 0.5, 0.3)
TIERS = (Tier("host", 60e9, 60e9, 1e-6), Tier("disk", 1e9, 1e9, 1e-4))
SIZES = (4 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20)


def promises() -> tuple[Promise, ...]:
    """Return the rows of a full run."""
    return tuple(Promise(case, BAR, PLAN_SECONDS) for case in CASES)


def training_step(tensors: int, state: int, seed: int = 5) -> Timeline:
    """Return a made-up step: each activation is read by the next op and, in reverse order, by the backward.

    Every third can be made again from the one before it. State is read and written at the step's end.
    """
    draw = random.Random(seed)
    forward = tensors - state
    events = tuple(Event(place, "op", draw.uniform(1e-5, 3e-4)) for place in range(2 * forward + state))
    buffers = []
    for index in range(forward):
        uses = tuple(sorted({index, min(index + 1, forward), 2 * forward - 1 - index}))
        buffers.append(Buffer(index, index, draw.choice(SIZES), "activation", index, uses, uses[-1]))
    for index in range(forward, tensors):
        buffers.append(Buffer(index, index, 1 << 20, "optimizer_state", -1, (forward + index,), None))
    recipes = tuple(
        Recipe(index, buffers[index].uses[-1], (index,), (index - 1,), events[index].seconds)
        for index in range(1, forward - 1, 3)
    )
    return Timeline(events, tuple(buffers), 1 << 20, recipes).check()


def measure(case: str, effort: Effort, found: Findings, progress: Progress) -> None:
    """Add the row: the slowest of all kinds of plans, the median of its repeats in CPU seconds."""
    step = training_step(TENSORS, STATE)
    kinds: list[dict[str, Any]] = []
    for place, tier in enumerate(TIERS):
        progress(f"{case}: over {tier.name}", place / len(TIERS))
        kinds += [_kind(step, share, tier, CASES[case], effort.plans) for share in SHARES]
    slowest = max(kinds, key=lambda kind: statistics.median(kind["seconds"]))
    low, middle, high = statistics.quantiles(slowest["seconds"], n=4)
    found.rows.append(held_to_bar(Promise(case, BAR, PLAN_SECONDS), middle, BAR_SECONDS, low, high))
    found.details[case] = {**conditions(), "tensors": TENSORS, "allow": list(CASES[case]), "kinds": kinds}


def _kind(step: Timeline, share: float, tier: Tier, allow: Sequence[str], plans: int) -> dict[str, Any]:
    budget = int(share * step.peak_bytes)
    seconds = []
    for _ in range(plans):
        # Nothing that an earlier plan has worked out is there.
        timeline = replace(step)
        begin = time.thread_time()
        made = plan(timeline, budget, (tier,), allow)
        seconds.append(time.thread_time() - begin)
    assert not isinstance(made, Refusal), "each of these budgets can be kept"
    return {
        "tier": tier.name, "share_of_peak": share, "seconds": seconds,
        "swapped": len(made.swapped), "recomputed": len(made.recomputed),
        "step_seconds_simulated": made.simulation.step_seconds, "plain_seconds": step.seconds,
    }  # fmt: skip
