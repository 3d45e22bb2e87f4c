"""How a step would scale: simulated for ever more workers, each with a batch like the run's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analyzer.measurement import Estimate
from optimizers.placement.cluster import Cluster
from optimizers.placement.costs import Costs
from optimizers.placement.plans import DistributedPlan, StepProfile
from optimizers.placement.predict import predict

WORLDS = tuple(1 << power for power in range(11))
"""1 to 1,024 workers."""


@dataclass(frozen=True, slots=True)
class ScalePoint:
    """A world and its step. Simulated. efficiency: a single worker's step over this one's."""

    world_size: int
    step: Estimate
    efficiency: float


@dataclass(frozen=True, slots=True)
class ScaleCurve:
    """A backend's steps over rising worlds; kind is that of the plan."""

    backend: str
    kind: str
    points: tuple[ScalePoint, ...]


def scale_curve(
    profile: StepProfile,
    cluster: Cluster,
    plan: DistributedPlan,
    costs: Costs | None = None,
    worlds: Sequence[int] = WORLDS,
) -> ScaleCurve:
    """Return the plan's steps for each world; a cluster that is too small is grown by hosts like its last."""
    grown = cluster.grown(max(worlds))
    alone = predict(profile, DistributedPlan("all-reduce", plan.backend, 1), grown, costs)
    points = []
    for world in sorted(set(worlds)):
        chosen = DistributedPlan(plan.kind, plan.backend, world, plan.order, plan.cap_bytes)
        found = predict(profile, chosen, grown, costs)
        points.append(ScalePoint(world, found.step, alone.seconds / found.seconds if found.seconds else 0.0))
    return ScaleCurve(plan.backend, plan.kind, tuple(points))
