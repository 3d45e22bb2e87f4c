"""The largest batch, or sequence, whose training step fits a budget: found by simulation, confirmed by a run."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from analyzer.measurement import Estimate
from analyzer.progress import Progress, silent
from analyzer.workload import Arguments, Stepper, Workload
from optimizers.swap.batch_search import LOOKS, Need, search
from optimizers.swap.budget import read_budget
from optimizers.swap.calibration import calibrate_folder
from optimizers.swap.errors import SwapError
from optimizers.swap.fit import ALLOW, FitReport, fit, timeline_of
from optimizers.swap.hooks import refuse_unsupported
from optimizers.swap.plan import smallest_budget
from optimizers.swap.snapshot import Snapshot
from optimizers.swap.swap_file import swap_folder
from optimizers.swap.tracer import trace_step

RUNS = 6
SMALLER = 0.95
TRACED_STEPS = 1
_SEARCH = 0.6


@dataclass(frozen=True)
class BatchFit:
    """batch: confirmed by a run, its peak within the budget. unswapped: the same without moving anything, predicted.

    estimate: what the simulation said. traced: the sizes whose steps were traced for it, rising.
    """

    batch: int
    estimate: Estimate
    unswapped: Estimate
    traced: tuple[int, ...]
    report: FitReport

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values, in bytes and seconds."""
        report = self.report
        return {
            "batch": self.batch,
            "estimate": self.estimate.as_dict(),
            "unswapped": self.unswapped.as_dict(),
            "traced": list(self.traced),
            "budget_bytes": report.budget_bytes,
            "peak_bytes_before": report.peak_bytes_before,
            "peak_bytes_measured": report.peak_bytes_measured,
            "step_seconds_before": report.step_before.as_dict(),
            "step_seconds_after": report.step_after.as_dict(),
        }


def largest_batch(
    workload: Workload,
    budget: int | str,
    allow: tuple[str, ...] = ALLOW,
    folder: str | None = None,
    *,
    axis: int = 0,
    progress: Progress = silent,
) -> BatchFit:
    """Return the largest batch that was run within the budget; the workload is left as it was.

    budget: as of `fit`; a percentage is of the peak of the step as it is given.
    axis:   of the inputs; 0 is the batch, 1 mostly the sequence. Each tensor that is as large along it as the first one
            has its rows repeated, or left out.
    Steps of some sizes are traced, with nothing moved: they have to fit into the machine. Raises SwapError where not
    even one item fits.
    """
    refuse_unsupported(workload.model)
    if not workload.training:
        raise SwapError("the workload does not train (it has no loss and optimizer); only training steps are fitted")
    items = _size(workload, axis)

    looks = itertools.count()

    def look(batch: int) -> Need:
        progress(f"trace a step of {batch:,} items", _SEARCH * min(next(looks) / (LOOKS + 1), 1.0))
        return _need(resized(workload, batch, axis), allow, folder)

    first = look(items)
    budget_bytes = read_budget(budget, first.peak_bytes)
    found = search(look, {items: first}, budget_bytes)
    basis = f"simulated from traced steps of {', '.join(map(str, found.traced))} items"
    batch = max(found.moved, 1)
    for turn in range(RUNS):
        progress(f"run {batch:,} items within {budget_bytes:,} bytes", _SEARCH + (1 - _SEARCH) * turn / RUNS)
        try:
            with fit(resized(workload, batch, axis), budget_bytes, allow=allow, folder=folder) as fitted:
                return BatchFit(
                    batch, _items(found.moved, basis), _items(found.unmoved, basis), found.traced, fitted.report
                )
        except SwapError as error:
            if batch == 1:
                raise SwapError(f"not even a batch of 1 fits: {error}") from error
            batch = max(min(int(batch * SMALLER), batch - 1), 1)
    raise SwapError(f"no batch down to {batch} was confirmed by a run within {budget_bytes:,} bytes; give a larger one")


def _items(count: int, basis: str) -> Estimate:
    return Estimate(count, count, count, "items", basis)


def _size(workload: Workload, axis: int) -> int:
    """Return the size along the axis of the first tensor among the inputs that has it."""
    if axis >= 0:
        for leaf in pytree.tree_leaves(workload.batch(0)):
            if isinstance(leaf, torch.Tensor) and leaf.dim() > axis and leaf.shape[axis]:
                return int(leaf.shape[axis])
    raise SwapError(f"no tensor among the inputs has an axis {axis} to make longer; give another axis, from 0 on")


def resized(workload: Workload, batch: int, axis: int = 0) -> Workload:
    """Return the workload with its inputs' rows along an axis repeated or left out until there are `batch` of them."""
    items = _size(workload, axis)

    def changed(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() <= axis or tensor.shape[axis] != items:
            return tensor
        return tensor.index_select(axis, torch.arange(batch, device=tensor.device) % items)

    def inputs(seed: int) -> Arguments:
        drawn: Any = pytree.tree_map_only(torch.Tensor, changed, workload.batch(seed))
        return drawn  # type: ignore[no-any-return]

    return replace(workload, inputs=inputs)


def _need(workload: Workload, allow: tuple[str, ...], folder: str | None) -> Need:
    """Return what a step of this size needs, from a trace of it."""
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
    return Need(smallest_budget(timeline_of(trace, tiers, chosen).timeline, tiers, chosen), trace.peak_bytes)
