"""All plans that a world of workers could train by, predicted, the quickest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from optimizers.placement.backend_costs import cost_named
from optimizers.placement.cluster import Cluster
from optimizers.placement.costs import Costs
from optimizers.placement.errors import PlacementError
from optimizers.placement.plans import DistributedPlan, StepProfile
from optimizers.placement.predict import Prediction, predict

CAPS = tuple(1 << power for power in range(19, 27))
"""Bucket sizes that are tried: 512 KiB to 64 MiB."""
MOST_STAGES = 16


def candidates(
    profile: StepProfile, world_size: int, cluster: Cluster, backend: str, kinds: Sequence[str] = ()
) -> Iterator[DistributedPlan]:
    """Yield the plans of a backend; kinds: those that are asked for, all by default."""
    wanted = set(kinds)
    cost = cost_named(backend)
    hosts = [host for host in cluster.hosts for _ in range(host.count)]
    orders = ("packed", "spread") if len(hosts) > 1 and world_size > 2 else ("packed",)
    for order in orders:
        if cost.form == "parameter-server":
            if not wanted or "parameter-server" in wanted:
                yield DistributedPlan("parameter-server", backend, world_size, order)
            continue
        for kind in ("all-reduce", "parameter-server", "sharded", "fully-sharded"):
            if (not wanted or kind in wanted) and (cost.one_sided or kind != "parameter-server"):
                for cap in caps(profile):
                    yield DistributedPlan(kind, backend, world_size, order, cap)
        if (not wanted or "pipeline" in wanted) and order == "packed":
            yield from _pipelines(profile, world_size, backend)


def caps(profile: StepProfile) -> tuple[int, ...]:
    """Return the bucket sizes that make a difference: none beyond the first that holds all gradients."""
    total = profile.gradient_bytes
    return tuple(cap for cap in CAPS if cap < 2 * total) or CAPS[:1]


def _pipelines(profile: StepProfile, world_size: int, backend: str) -> Iterator[DistributedPlan]:
    most = min(world_size, MOST_STAGES, len(profile.cuts) + 1)
    for stages in range(2, most + 1):
        if world_size % stages == 0:
            for many in (1, 2, 4):
                yield DistributedPlan(
                    "pipeline", backend, world_size, "packed", stages=stages, micro_batches=many * stages
                )


def search(
    profile: StepProfile,
    world_size: int,
    cluster: Cluster,
    backend: str = "hotbench",
    costs: Costs | None = None,
    kinds: Sequence[str] = (),
) -> tuple[Prediction, ...]:
    """Return the best of each kind of plan (and number of stages), the quickest that fits in memory first.

    Raises PlacementError where no plan of the kinds can be made.
    """
    best: dict[tuple[str, int], Prediction] = {}
    for plan in candidates(profile, world_size, cluster, backend, kinds):
        try:
            found = predict(profile, plan, cluster, costs)
        except PlacementError:
            if plan.kind != "pipeline":
                raise
            continue
        key = plan.kind, plan.stages
        if key not in best or _rank(found) < _rank(best[key]):
            best[key] = found
    if not best:
        raise PlacementError(f"backend {backend!r} has no plan of kind {', '.join(kinds)}; choose another kind")
    return tuple(sorted(best.values(), key=_rank))


def _rank(found: Prediction) -> tuple[bool, float, int]:
    return not found.fits, found.seconds, -found.plan.cap_bytes
