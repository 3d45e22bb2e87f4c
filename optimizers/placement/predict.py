"""What a plan would take on a cluster: simulated three times, for the low, mid and high of its estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, copysign, exp, log, sqrt

from analyzer.measurement import Estimate
from optimizers.placement.arena import registered_bytes
from optimizers.placement.backend_costs import BackendCost, cost_named
from optimizers.placement.buckets import DDP_CAP_BYTES, DDP_FIRST_BYTES, Bucket, make_buckets
from optimizers.placement.cluster import Cluster
from optimizers.placement.costs import Costs
from optimizers.placement.exchange import capacities
from optimizers.placement.plans import DistributedPlan, StepProfile
from optimizers.placement.schedule_data import COMPUTE, EXCHANGE, data_parallel_tasks, speed_of
from optimizers.placement.schedule_pipeline import pipeline_tasks
from optimizers.placement.seats import Seating, seat
from optimizers.placement.simulate import Simulation, simulate
from optimizers.placement.stages import make_stages

UNSURE = (0.8, 1.5)
"""Costs that were measured elsewhere, or published, may be so much off, down and up: assumed."""
ELSEWHERE = (0.6, 2.0)
"""The same of compute that was captured on another device and scaled by peak FLOP/s: assumed."""
MODEL = (0.9, 1.25)
"""Measured over predicted step: 0.95 to 1.25 in two quiet runs of benchmarks.placement_simulator, rounded outwards."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a plan would take. Simulated, never measured.

    compute_seconds: some worker computes.    exposed_seconds: the rest of the step: workers wait for messages.
    hidden_seconds:  messages under way while workers compute.    busy: share of each resource over the step.
    memory_bytes, registered_bytes: of one worker; fits: whether its host has that much.
    """

    plan: DistributedPlan
    step: Estimate
    compute_seconds: float
    exposed_seconds: float
    hidden_seconds: float
    busy: dict[str, float]
    registered_bytes: int
    memory_bytes: int
    fits: bool

    @property
    def seconds(self) -> float:
        """Return the middle of the step's estimate."""
        return self.step.mid


def predict(profile: StepProfile, plan: DistributedPlan, cluster: Cluster, costs: Costs | None = None) -> Prediction:
    """Return what the plan would take. Every worker has a batch like the run's, in every plan.

    Raises PlacementError for a plan that the cluster has no room for, or that the model cannot be cut for.
    """
    known = Costs() if costs is None else costs
    seating = seat(cluster, plan.world_size, plan.order)
    backend = cost_named(plan.backend)
    measured = known.find(backend, seating) is not None or plan.world_size == 1
    found = simulate_plan(profile, plan, seating, known)
    where = "this machine's measured costs" if measured else f"the links of {cluster.name}"
    low, high = _bounds(found.step_seconds, profile, plan, seating, known)
    step = Estimate(low, found.step_seconds, high, "s", f"simulated with {where}")
    compute = found.union_seconds(COMPUTE)
    exposed = max(found.step_seconds - compute, 0.0)
    memory = memory_bytes(profile, plan)
    return Prediction(
        plan=plan,
        step=step,
        compute_seconds=compute,
        exposed_seconds=exposed,
        hidden_seconds=max(found.union_seconds((EXCHANGE,)) - exposed, 0.0),
        busy=found.busy,
        registered_bytes=registered_bytes(profile, plan),
        memory_bytes=memory,
        fits=memory * seating.most_on_a_host <= _room(seating),
    )


def _bounds(
    middle: float, profile: StepProfile, plan: DistributedPlan, seating: Seating, costs: Costs
) -> tuple[float, float]:
    """Return low and high of a step: costs and compute at their quartiles, and what the model itself is off.

    The two are independent of each other: their relative errors are added as squares.
    """
    strange = any(speed_of(item.host, profile) != 1.0 for item in seating.seats)
    found = []
    for side, ratio in ((0, profile.low_ratio), (1, profile.high_ratio)):
        compute = _scaled(profile, ratio * (ELSEWHERE[side] if strange else 1.0))
        slowed = replace(costs, slower=UNSURE[side], side=(-1, 1)[side])
        inputs = simulate_plan(compute, plan, seating, slowed).step_seconds
        found.append(added_errors(middle, inputs, middle * (MODEL[side] if plan.world_size > 1 else 1.0)))
    return min(found[0], middle), max(found[1], middle)


def added_errors(middle: float, *values: float) -> float:
    """Return the value on the first one's side of `middle` that is as far off as independent errors are together.

    values: `middle` with one error each.
    """
    if middle <= 0:
        return max(values, default=0.0)
    errors = [log(max(value, 1e-12) / middle) for value in values]
    return middle * exp(copysign(sqrt(sum(error * error for error in errors)), errors[0] or sum(errors)))


def simulate_plan(profile: StepProfile, plan: DistributedPlan, seating: Seating, costs: Costs) -> Simulation:
    """Return the simulated step of the plan with its ranks in their seats."""
    backend = cost_named(plan.backend)
    if plan.kind == "pipeline" and plan.stages > 1:
        pace = seating.link(0, 1).bytes_per_second
        stages = make_stages(profile, plan.stages, min(pace, backend.bytes_per_second))
        tasks = pipeline_tasks(profile, stages, plan.micro_batches, seating, backend, costs)
    else:
        kind = "all-reduce" if plan.kind == "pipeline" else plan.kind
        buckets = buckets_of(profile, plan, backend)
        tasks = data_parallel_tasks(kind, profile, buckets, seating, backend, costs)
    return simulate(tasks, capacities(seating, costs.rates.processor, costs.rates.memory))


def buckets_of(profile: StepProfile, plan: DistributedPlan, backend: BackendCost) -> tuple[Bucket, ...]:
    """Return the buckets of a plan; one that sends all at once has one for each dtype."""
    cap, first = plan.cap_bytes, None
    if backend.unit == "step":
        cap = max(profile.gradient_bytes, 1)
    elif cap == DDP_CAP_BYTES:
        first = DDP_FIRST_BYTES
    return make_buckets(profile.gradients, cap, world_size=max(plan.world_size, 2), first_bytes=first).buckets


def memory_bytes(profile: StepProfile, plan: DistributedPlan) -> int:
    """Return the memory of one worker: parameters, gradients, optimizer state and activations of its batch."""
    parameters, gradients, state = profile.parameter_bytes, profile.gradient_bytes, profile.optimizer_state_bytes
    activations, world = profile.activation_bytes, plan.world_size
    if plan.kind == "sharded":
        state = ceil(state / world)
    elif plan.kind == "fully-sharded":
        largest = max((gradient.bytes for gradient in profile.gradients), default=0)
        shares = ceil((parameters + gradients + state) / world)
        return shares + 2 * max(plan.cap_bytes, largest) + activations
    elif plan.kind == "pipeline":
        # All micro-batches of a row are alive at once, each stage's part of them.
        return ceil((parameters + gradients + state) / plan.stages) + activations
    return parameters + gradients + state + activations


def _room(seating: Seating) -> int:
    """Return the least memory of a host; of a host with GPUs, what its workers' GPUs have together."""
    return min(place.host.memory_bytes * (place.workers if place.host.gpus else 1) for place in seating.seats)


def _scaled(profile: StepProfile, ratio: float) -> StepProfile:
    gradients = tuple(replace(item, ready_seconds=item.ready_seconds * ratio) for item in profile.gradients)
    return replace(
        profile,
        forward_seconds=profile.forward_seconds * ratio,
        backward_seconds=profile.backward_seconds * ratio,
        optimizer_seconds=profile.optimizer_seconds * ratio,
        gradients=gradients,
    )


def fastest(found: Sequence[Prediction]) -> Prediction:
    """Return the quickest of those that fit in memory; of all, where none does."""
    return min([item for item in found if item.fits] or list(found), key=lambda item: item.seconds)
