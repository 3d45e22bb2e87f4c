"""What a run's step would take on a world of workers, before anything runs: every backend, other plans, the scale."""

from __future__ import annotations

from dataclasses import replace

from optimizers.placement.arena import lay_out
from optimizers.placement.backend_costs import BACKEND_COSTS, BackendCost, cost_named
from optimizers.placement.buckets import DDP_CAP_BYTES, BucketPlan, make_buckets
from optimizers.placement.calibration import load_calibration
from optimizers.placement.cluster import Cluster
from optimizers.placement.costs import Costs
from optimizers.placement.errors import PlacementError
from optimizers.placement.plans import DistributedPlan, StepProfile
from optimizers.placement.predict import Prediction, fastest, predict, simulate_plan
from optimizers.placement.scale import WORLDS, ScaleCurve, scale_curve
from optimizers.placement.search import candidates, search
from optimizers.placement.seats import seat
from optimizers.placement.this_machine import NAME as THIS_MACHINE
from optimizers.placement.views import BackendView, PlacementView, Span

OURS = "hotbench"


def known_costs(cluster: Cluster) -> Costs:
    """Return the costs of a cluster: what was measured, where it is this machine, else links and software."""
    found = load_calibration() if cluster.name == THIS_MACHINE else None
    return Costs() if found is None else found.costs()


def look_ahead(
    profile: StepProfile,
    world_size: int,
    cluster: Cluster,
    *,
    cap_bytes: int | None = None,
    form: str = "all-reduce",
    costs: Costs | None = None,
    dynamic: tuple[tuple[str, str], ...] = (),
) -> PlacementView:
    """Return the outlook of a step for `world_size` workers.

    cap_bytes: of our buckets, by default the quickest.    form: how our backend averages, one of plans.APPLIED.
    Raises PlacementError where the cluster has no room for so many.
    """
    if world_size < 2:
        raise PlacementError(f"a world of {world_size} exchanges nothing; choose 2 workers or more")
    known = known_costs(cluster) if costs is None else costs
    found = {
        item.name: _of_backend(item, profile, world_size, cluster, known, cap_bytes, form) for item in BACKEND_COSTS
    }
    ours = found[OURS].plan
    return PlacementView(
        world_size=world_size,
        cluster=cluster.name,
        backends=tuple(BackendView(item.name, item.title, found[item.name]) for item in BACKEND_COSTS),
        buckets=bucket_plan(profile, ours),
        others=_others(profile, world_size, cluster, known, ours),
        spans=_spans(profile, ours, cluster, known),
        curves=curves_of(profile, cluster, {name: item.plan for name, item in found.items()}),
        sources=_sources(cluster, known, world_size),
        single_seconds=profile.seconds,
        dynamic=dynamic,
    )


def _of_backend(
    backend: BackendCost,
    profile: StepProfile,
    world_size: int,
    cluster: Cluster,
    costs: Costs,
    cap_bytes: int | None,
    form: str,
) -> Prediction:
    """Return a backend as it is used: ours in its form with the quickest buckets, the others as they come."""
    if backend.name != OURS:
        plan = DistributedPlan(backend.form, backend.name, world_size, cap_bytes=DDP_CAP_BYTES)
        return predict(profile, plan, cluster, costs)
    if cap_bytes is not None:
        return predict(profile, DistributedPlan(form, OURS, world_size, cap_bytes=cap_bytes), cluster, costs)
    plans = [plan for plan in candidates(profile, world_size, cluster, OURS, (form,)) if plan.order == "packed"]
    return fastest([predict(profile, plan, cluster, costs) for plan in plans])


def bucket_plan(profile: StepProfile, plan: DistributedPlan) -> BucketPlan:
    """Return the buckets of a plan, with the memory that a worker registers for them."""
    found = make_buckets(profile.gradients, plan.cap_bytes, world_size=plan.world_size, form=plan.kind)
    return replace(found, arena_bytes=lay_out(found).bytes)


def _others(
    profile: StepProfile, world_size: int, cluster: Cluster, costs: Costs, chosen: DistributedPlan
) -> tuple[Prediction, ...]:
    found = search(profile, world_size, cluster, OURS, costs)
    return tuple(item for item in found if (item.plan.kind, item.plan.order) != (chosen.kind, chosen.order))


def _spans(profile: StepProfile, plan: DistributedPlan, cluster: Cluster, costs: Costs) -> tuple[Span, ...]:
    found = simulate_plan(profile, plan, seat(cluster, plan.world_size, plan.order), costs)
    return tuple(
        Span(task.lane, task.kind, task.name, start, end)
        for task, start, end in zip(found.tasks, found.starts, found.ends, strict=True)
    )


def curves_of(
    profile: StepProfile, cluster: Cluster, plans: dict[str, DistributedPlan], worlds: tuple[int, ...] = WORLDS
) -> tuple[ScaleCurve, ...]:
    """Return each backend's steps over rising worlds. What was measured between a few processes is left aside."""
    # One line is one set of costs: measured points in between would bend it where the source changes.
    return tuple(scale_curve(profile, _wide(cluster), plan, Costs(), worlds) for plan in plans.values())


def _wide(cluster: Cluster) -> Cluster:
    """Return a cluster to scale on: of this machine as many as are needed, each with as many workers as cores."""
    if cluster.name != THIS_MACHINE:
        return cluster
    host = cluster.hosts[0]
    return replace(cluster, hosts=(replace(host, workers=host.cores),))


def _sources(cluster: Cluster, costs: Costs, world_size: int) -> tuple[str, ...]:
    links = [f"{link.name}: {link.source}" for link in cluster.links]
    measured = {item.backend: item.source for item in costs.measured if item.world_size == world_size}
    software = [
        f"{item.title}: {measured.get(item.name, item.source)}"
        for item in (cost_named(backend.name) for backend in BACKEND_COSTS)
    ]
    return (*software, *links)
