"""The placement optimizer: several workers train together, their gradients written straight to where they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from analyzer.diagnosis.finding import Diagnosis
from analyzer.errors import HotbenchError, RecordError
from analyzer.identity import content_id
from analyzer.launch import Launch
from analyzer.measurement import Estimate
from analyzer.progress import Progress, silent
from analyzer.reference import WorkloadReference
from analyzer.run import Run
from analyzer.workload import Workload
from optimizers.placement.analysis import Traffic, analyse
from optimizers.placement.buckets import BucketPlan, decode_buckets
from optimizers.placement.clusters import find_cluster
from optimizers.placement.errors import PlacementError
from optimizers.placement.options import PlacementOptions
from optimizers.placement.outlook import OURS, look_ahead
from optimizers.placement.plans import profile_of
from optimizers.placement.predict import Prediction, added_errors
from optimizers.placement.this_machine import NAME as THIS_MACHINE
from optimizers.placement.views import VIEW_FILE, PlacementView, decode_view
from optimizers.plan import Applied, Options, Plan, Refusal, Target

NAME = "placement"
PLAN_FILE = "bucket_plan.json"


class PlacementOptimizer:
    """Trains on several workers whose gradients are written one-sided into registered memory, and predicts clusters."""

    name: ClassVar[str] = NAME
    options: ClassVar[type[Options]] = PlacementOptions

    def plan(self, run: Run, diagnosis: Diagnosis, options: Options) -> Plan | Refusal:
        """Return the predicted step of our backend against the baseline's, or why there is none."""
        assert isinstance(options, PlacementOptions)
        reason = refusal(run, options)
        if reason:
            return Refusal(NAME, reason)
        try:
            traffic = analyse(run)
            view = outlook(run, options, traffic)
        except PlacementError as error:
            return Refusal(NAME, str(error))
        chosen = options.as_dict()
        return Plan(
            id=content_id("plan", [run.id, NAME, chosen]),
            parent=run.id,
            optimizer=NAME,
            options=chosen,
            targets=tuple(_targets(view, traffic)),
            estimate=_estimate(view, options.baseline),
            summary=_summary(view, options.baseline),
            reference=run.workload,
        )

    def apply(self, workload: Workload, plan: Plan, progress: Progress = silent) -> tuple[Workload, Applied] | Refusal:
        """Return the workload as it is, and the plan with the steps of each backend measured on this machine."""
        return self.apply_after((), workload, plan, progress)

    def apply_after(
        self, earlier: tuple[Applied, ...], workload: Workload, plan: Plan, progress: Progress = silent
    ) -> tuple[Workload, Applied] | Refusal:
        """Return what `apply` does; the workers that are measured build the workload with what was applied earlier."""
        from optimizers.placement.apply import carry_out

        try:
            view, buckets, here = carry_out(workload, plan, progress, earlier)
            # What the experiment will show is of this machine, whatever the cluster that was asked for.
            plan = replace(plan, estimate=_estimate(here, str(plan.options["baseline"])))
        except HotbenchError as error:
            return Refusal(NAME, str(error))
        ours = view.backend(OURS)
        if ours is None or ours.measured is None:
            return Refusal(NAME, ours.reason if ours is not None and ours.reason else "our backend was not measured")
        blobs = {PLAN_FILE: buckets.encode(), VIEW_FILE: view.encode()}
        return workload, Applied(plan, decisions(view, buckets), blobs)

    def rebuild(self, workload: Workload, applied: Applied) -> Workload:
        """Return the workload: its workers are started by the launch. Raises RecordError where the plan is damaged."""
        buckets_of(applied)
        return workload

    def launches(
        self, reference: WorkloadReference, folder: Path, applied: Applied, threads: int
    ) -> tuple[Launch, Launch]:
        """Return the chosen baseline and the candidate, both at the same world size on this machine's processes."""
        from optimizers.placement.launch import PlacementLaunch, candidate_entry, placement_launch
        from optimizers.placement.variant import experiment_launch

        options = PlacementOptions(**applied.plan.options)
        world = options.world_size
        before = placement_launch(reference, options.baseline, world_size=world, threads=threads)
        settings = settings_of(buckets_of(applied))
        after = PlacementLaunch(*candidate_entry(folder), OURS, world, threads, settings=settings)
        return experiment_launch(before, f"{options.baseline}, {world} workers"), experiment_launch(after, NAME)


def refusal(run: Run, options: PlacementOptions) -> str:
    """Return why the run cannot be trained by several workers here, in one line; "" if it can."""
    from optimizers.placement.backends import unavailable

    if not run.training:
        return "the step does not train: its workers would have nothing to exchange"
    if options.world_size < 2:
        return f"a world of {options.world_size} exchanges nothing; set placement.world_size to 2 or more"
    return unavailable(OURS) or unavailable(options.baseline)


def outlook(run: Run, options: PlacementOptions, traffic: Traffic | None = None) -> PlacementView:
    """Return what the options would give, predicted. Raises PlacementError where they cannot be."""
    cluster = find_cluster(options.cluster, options.world_size)
    profile = profile_of(run, traffic)
    return look_ahead(profile, options.world_size, cluster, cap_bytes=options.cap_bytes, form=options.form)


def settings_of(buckets: BucketPlan) -> dict[str, Any]:
    """Return what our backend is told of a plan."""
    return {"bucket_megabytes": buckets.cap_bytes / (1 << 20), "form": buckets.form}


def buckets_of(applied: Applied) -> BucketPlan:
    """Return the bucket plan that a candidate keeps. Raises RecordError where it has none, or a damaged one."""
    content = applied.blobs.get(PLAN_FILE)
    if content is None:
        raise RecordError(f"the candidate has no {PLAN_FILE}; optimize the run again")
    return decode_buckets(content)


def view_of(applied: Applied) -> PlacementView | None:
    """Return what a page shows of a candidate; None where it keeps nothing. Raises RecordError for a damaged view."""
    content = applied.blobs.get(VIEW_FILE)
    return None if content is None else decode_view(content)


def decisions(view: PlacementView, buckets: BucketPlan) -> dict[str, Any]:
    """Return, as plain JSON, what was decided and measured."""
    found: dict[str, Any] = {
        "world_size": view.world_size,
        "form": buckets.form,
        "buckets": len(buckets.buckets),
        "bucket_cap_bytes": buckets.cap_bytes,
        "registered_bytes": buckets.arena_bytes,
        "dynamic_tensors": len(view.dynamic),
    }
    for item in view.backends:
        if item.measured is not None:
            parts = {name: getattr(item.measured, name).as_dict() for name in ("step", "compute", "exposed", "hidden")}
            found[f"{item.name}_seconds"] = {**parts, "transport": item.measured.transport}
    return found


def _estimate(view: PlacementView, baseline: str) -> Estimate:
    before, after = _predicted(view, baseline).step, _predicted(view, OURS).step
    middle = before.mid / after.mid
    # What the two predictions are off is taken for independent: one may be too high where the other is too low.
    low = added_errors(middle, before.low / after.mid, before.mid / after.high)
    high = added_errors(middle, before.high / after.mid, before.mid / after.low)
    return Estimate(min(low, middle), middle, max(high, middle), "x", f"{after.basis}, against {baseline}")


def _predicted(view: PlacementView, name: str) -> Prediction:
    found = view.backend(name)
    if found is None or found.predicted is None:
        raise PlacementError(f"backend {name!r} cannot be predicted; choose another baseline")
    return found.predicted


def _summary(view: PlacementView, baseline: str) -> str:
    ours, theirs = _predicted(view, OURS).seconds, _predicted(view, baseline).seconds
    where = "" if view.cluster == THIS_MACHINE else "; Apply runs it on this machine"
    return (
        f"{view.world_size} workers on {view.cluster}, {view.buckets.form}: a step of {ours * 1e3:.3g} ms predicted, "
        f"{theirs * 1e3:.3g} ms with {baseline}, {view.single_seconds * 1e3:.3g} ms on one worker alone{where}"
    )


def _targets(view: PlacementView, traffic: Traffic) -> Iterator[Target]:
    """Yield the buckets that would be sent, then the plans of other kinds, which are predicted alone."""
    ops = {item.name: item.ready_op for item in traffic.gradients}
    for bucket in view.buckets.buckets:
        title = (
            f"{len(bucket.parameters)} gradients, {bucket.bytes:,} bytes, "
            f"sent {bucket.ready_seconds * 1e3:.3g} ms after backward begins"
        )
        yield Target(title, tuple(sorted(ops[name] for name in bucket.parameters)))
    for other in view.others:
        seconds = f"predicted {other.seconds * 1e3:.3g} ms a step"
        room = "" if other.fits else ", more than its memory"
        yield Target(other.plan.title, (), refusal=f"{seconds}{room}; {other.plan.how_to_apply}")
