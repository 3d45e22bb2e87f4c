"""The largest batch whose training step fits a budget: found by simulation, confirmed by a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from analyzer.measurement import Estimate
from analyzer.workload import Arguments, Stepper, Workload, items_per_step
from optimizers.swap.calibration import calibrate_folder
from optimizers.swap.errors import SwapError
from optimizers.swap.fit import ALLOW, FitReport, fit, timeline_of
from optimizers.swap.plan import smallest_budget
from optimizers.swap.snapshot import Snapshot
from optimizers.swap.swap_file import swap_folder
from optimizers.swap.tracer import trace_step

TRIES = 6
SMALLER = 0.9
TRACED_STEPS = 1
MOST_BATCH = 1 << 20


@dataclass(frozen=True)
class BatchFit:
    """batch: confirmed by a run, its peak within the budget. unswapped: the same without moving anything, predicted.

    estimate: what the simulation said, along a straight line through two traced batches.
    """

    batch: int
    estimate: Estimate
    unswapped: Estimate
    report: FitReport


def largest_batch_that_fits(
    workload: Workload, budget_bytes: int, allow: tuple[str, ...] = ALLOW, folder: str | None = None
) -> BatchFit:
    """Return the largest batch that was run within the budget; the workload is left as it was.

    A batch is the inputs' first axis: rows are repeated, or left out. Raises SwapError where not even one item fits.
    """
    items = items_per_step(workload.batch(0))
    low, high = max(items // 2, 1), max(items, 2)
    needs = {batch: _needs(with_batch(workload, batch), allow, folder) for batch in (low, high)}
    moved = _along({batch: need[0] for batch, need in needs.items()}, budget_bytes)
    unmoved = _along({batch: need[1] for batch, need in needs.items()}, budget_bytes)
    basis = f"a straight line through traced batches {low} and {high}"
    batch = max(moved, 1)
    for _ in range(TRIES):
        try:
            with fit(with_batch(workload, batch), budget_bytes, allow=allow, folder=folder) as fitted:
                return BatchFit(
                    batch, Estimate(moved, moved, moved, "items", basis),
                    Estimate(unmoved, unmoved, unmoved, "items", basis), fitted.report,
                )  # fmt: skip
        except SwapError as error:
            if batch == 1:
                raise SwapError(f"not even a batch of 1 fits: {error}") from error
            batch = max(int(batch * SMALLER), 1)
    raise SwapError(f"no batch down to {batch} was confirmed by a run within {budget_bytes:,} bytes; give a larger one")


def with_batch(workload: Workload, batch: int) -> Workload:
    """Return the workload with its inputs' rows repeated or left out until there are `batch` of them."""
    items = items_per_step(workload.batch(0))

    def resized(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() == 0 or tensor.shape[0] != items:
            return tensor
        return tensor[torch.arange(batch) % items]

    def inputs(seed: int) -> Arguments:
        drawn: Any = pytree.tree_map_only(torch.Tensor, resized, workload.batch(seed))
        return drawn  # type: ignore[no-any-return]

    return replace(workload, inputs=inputs)


def _needs(workload: Workload, allow: tuple[str, ...], folder: str | None) -> tuple[int, int]:
    """Return the smallest budget that works, simulated, and the peak with nothing moved."""
    where = swap_folder(folder)
    snapshot = Snapshot(workload.model, workload.optimizer, where)
    try:
        if not workload.model.training:
            workload.model.train()
        trace = trace_step(Stepper(workload), TRACED_STEPS)
    finally:
        snapshot.restore()
        snapshot.close()
    tiers = (calibrate_folder(where),) if "swap" in allow else ()
    chosen = ("swap",) if tiers else allow
    return smallest_budget(timeline_of(trace, tiers, chosen).timeline, tiers, chosen), trace.peak_bytes


def _along(needs: dict[int, int], budget: int) -> int:
    """Return the batch at which a straight line through both reaches the budget."""
    (low, less), (high, more) = needs.items()
    return max(int(low + (budget - less) * (high - low) / (more - less)), 0) if more > less else MOST_BATCH
