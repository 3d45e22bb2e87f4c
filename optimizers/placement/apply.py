"""Carries a placement plan out on this machine's processes: calibrates, predicts anew, measures every backend."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from analyzer.capture import capture
from analyzer.device import usable_cores
from analyzer.progress import Progress, part
from analyzer.workload import Workload
from optimizers.placement.backends import unavailable
from optimizers.placement.buckets import BucketPlan
from optimizers.placement.calibrate import SERVED, calibrate
from optimizers.placement.calibration import load_calibration, merge, save_calibration
from optimizers.placement.errors import PlacementError
from optimizers.placement.launch import Entry, baseline_entry, candidate_entry
from optimizers.placement.measure import measure_backends
from optimizers.placement.observe import dynamic_shapes, names_in_order
from optimizers.placement.optimizer import outlook, settings_of
from optimizers.placement.options import PlacementOptions
from optimizers.placement.outlook import OURS
from optimizers.placement.plans import profile_of
from optimizers.placement.this_machine import NAME as THIS_MACHINE
from optimizers.placement.views import PlacementView, Split
from optimizers.plan import Applied, Plan

BESIDE = ("gloo", "grpc")
"""Measured beside ours and the chosen baseline, where they can run."""
WORKERS_A_CORE = 4
"""More processes than that on one core measure the system's scheduler."""
SMALL_BYTES = 4 << 10
MOST_SERVED_BYTES = 8 << 20
"""A server takes seconds for more, and its time is in proportion."""


def carry_out(
    workload: Workload, plan: Plan, progress: Progress, earlier: tuple[Applied, ...] = ()
) -> tuple[PlacementView, BucketPlan, PlacementView]:
    """Return the view with every backend measured, the buckets by the model's own names, and the view of this machine.

    The last is the prediction alone, of the same workers on this machine: the first one's is of the cluster.
    earlier: what other optimizers did to the workload; the workers of every backend do it again.

    Raises PlacementError where it cannot run here, WorkloadError where the user's own step fails.
    """
    options = PlacementOptions(**plan.options)
    if plan.reference is None:
        raise PlacementError(f"plan {plan.id} names no workload for its workers; plan the run again")
    if workload.step is not None:
        raise PlacementError("the workload has a step of its own; give Workload.loss and Workload.optimizer instead")
    reason = local_refusal(options)
    if reason:
        raise PlacementError(reason)
    threads = torch.get_num_threads()
    dynamic = dynamic_shapes(workload)
    run = capture(workload, plan.reference, threads=threads, progress=part(progress, 0.0, 0.2))
    profile = profile_of(run)
    names = names_in_order(workload, profile.gradients)
    if options.is_here:
        ensure_calibrated(options, threads, profile.gradient_bytes, part(progress, 0.2, 0.6))
    here = outlook(run, replace(options, cluster=THIS_MACHINE))
    view = here if options.is_here else outlook(run, options)
    view = replace(view, dynamic=dynamic)
    buckets = view.buckets.renamed(names)
    with _entry(plan, earlier) as entry:
        measured = measure_backends(
            entry,
            tuple(dict.fromkeys((OURS, options.baseline, *BESIDE))),
            world_size=options.world_size,
            threads=threads,
            steps=options.steps,
            settings=settings_of(buckets),
            progress=part(progress, 0.6, 1.0),
        )
    return with_measured(replace(view, buckets=buckets), measured), buckets, here


@contextmanager
def _entry(plan: Plan, earlier: tuple[Applied, ...]) -> Iterator[Entry]:
    """Have what a worker builds: the plan's workload, with what was applied to it earlier."""
    assert plan.reference is not None
    if not earlier:
        yield baseline_entry(plan.reference)
        return
    from optimizers.candidate import make_candidate, save_candidate

    with tempfile.TemporaryDirectory(prefix="hotbench-placement-") as made:
        folder = Path(made) / "candidate"
        save_candidate(make_candidate(plan.parent, plan.reference, earlier), folder)
        yield candidate_entry(folder)


def local_refusal(options: PlacementOptions) -> str:
    """Return why so many workers are not started on this machine; "" if they are."""
    most = WORKERS_A_CORE * usable_cores()
    if options.world_size <= most:
        return ""
    stands = "" if options.is_here else f"; the prediction for {options.cluster} stands"
    return f"{options.world_size} workers are too many for {usable_cores()} cores: apply up to {most} here{stands}"


def ensure_calibrated(options: PlacementOptions, threads: int, gradient_bytes: int, progress: Progress) -> None:
    """Measure what is not known of this machine yet: ours, the baseline, and what stands beside them.

    Each exchanges a small message, and as many bytes as the model has gradients.
    """
    for name in dict.fromkeys((OURS, options.baseline, *BESIDE)):
        known = load_calibration()
        if unavailable(name) or (known is not None and known.has(name, options.world_size)):
            continue
        largest = max(min(gradient_bytes, MOST_SERVED_BYTES) if name in SERVED else gradient_bytes, 2 * SMALL_BYTES)
        found = calibrate(
            options.world_size,
            [name],
            threads=threads,
            sizes=(SMALL_BYTES, largest),
            rates=None if known is None else known.rates,
            progress=progress,
        )
        save_calibration(merge(found))


def with_measured(view: PlacementView, measured: dict[str, Split | str]) -> PlacementView:
    """Return the view with what was measured of its backends, or why it was not."""
    backends = []
    for item in view.backends:
        found = measured.get(item.name)
        if isinstance(found, str):
            item = replace(item, reason=found)
        elif found is not None:
            item = replace(item, measured=found)
        backends.append(item)
    return replace(view, backends=tuple(backends))
