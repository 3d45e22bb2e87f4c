"""How a training step is spread over workers: the plans that are compared, and what each needs to know of the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from analyzer.run import Run
from optimizers.placement.analysis import Traffic, analyse
from optimizers.placement.buckets import Gradient
from optimizers.placement.cuts import Cut
from optimizers.placement.errors import PlacementError
from optimizers.placement.memory_use import memory_shares

KINDS = ("all-reduce", "parameter-server", "sharded", "fully-sharded", "pipeline")
APPLIED = ("all-reduce", "parameter-server")
"""What Apply carries out, as placement.form says; plans of other kinds are predicted alone."""
TITLES = {
    "all-reduce": "data-parallel, all-reduce",
    "parameter-server": "data-parallel, parameter server",
    "sharded": "data-parallel, optimizer sharded",
    "fully-sharded": "data-parallel, fully sharded",
    "pipeline": "pipeline",
}


@dataclass(frozen=True, slots=True)
class DistributedPlan:
    """One way to spread the step.

    kind: one of KINDS.    order: how ranks are dealt to hosts, one of seats.ORDERS.    cap_bytes: of a bucket.
    stages: workers in a row that each hold a part of the model; copies of the row train data-parallel.
    micro_batches: parts that a worker's batch is cut in as it goes through the stages.
    """

    kind: str
    backend: str
    world_size: int
    order: str = "packed"
    cap_bytes: int = 25 << 20
    stages: int = 1
    micro_batches: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise PlacementError(f"plan {self.kind!r} is not known; choose one of {', '.join(KINDS)}")
        if self.world_size < 1 or self.stages < 1 or self.micro_batches < 1 or self.cap_bytes < 1:
            raise PlacementError(f"plan {self}: world, stages, micro-batches and bucket must be 1 or more")
        if self.world_size % self.stages:
            raise PlacementError(f"a world of {self.world_size} has no rows of {self.stages} stages; choose a divisor")

    @property
    def title(self) -> str:
        """Return the plan in words."""
        words = TITLES[self.kind]
        if self.kind == "pipeline":
            words = f"{words} of {self.stages} stages, {self.micro_batches} micro-batches"
            return words if self.stages == self.world_size else f"{words}, {self.world_size // self.stages} rows"
        return f"{words}, {self.order}" if self.order != "packed" else words

    @property
    def how_to_apply(self) -> str:
        """Return, in words, whether Apply carries such a plan out, and how it is asked to."""
        if self.kind in APPLIED:
            return f"Apply runs it with placement.form={self.kind}"
        return "predicted alone: Apply does not carry it out"


@dataclass(frozen=True, slots=True)
class StepProfile:
    """One worker's step as it was captured: seconds by phase, gradients as they are ready, bytes by what they are.

    low_ratio, high_ratio: the quartiles of the measured step over its median.
    flops_per_second: of the device that the run was captured on; None where it was not measured.
    memory_shares: by phase, the share of its time in which a core's memory bandwidth is what it takes.
    """

    name: str
    forward_seconds: float
    backward_seconds: float
    optimizer_seconds: float
    gradients: tuple[Gradient, ...]
    cuts: tuple[Cut, ...]
    parameter_bytes: int
    optimizer_state_bytes: int
    activation_bytes: int
    low_ratio: float = 1.0
    high_ratio: float = 1.0
    on_gpu: bool = False
    flops_per_second: float | None = None
    memory_shares: tuple[tuple[str, float], ...] = ()

    def memory_share(self, phase: str) -> float:
        """Return a phase's share; 0 where nothing is known of it."""
        return dict(self.memory_shares).get(phase, 0.0)

    @property
    def seconds(self) -> float:
        """Return the seconds of a step on one worker."""
        return self.forward_seconds + self.backward_seconds + self.optimizer_seconds

    @property
    def gradient_bytes(self) -> int:
        """Return the bytes of all gradients."""
        return sum(gradient.bytes for gradient in self.gradients)


def profile_of(run: Run, traffic: Traffic | None = None) -> StepProfile:
    """Return the profile of a training run. Raises PlacementError where `analyse` does."""
    found = analyse(run) if traffic is None else traffic
    at_peak = run.memory.at_peak
    parameters = sum(item.bytes for item in found.parameters)
    kept = parameters + found.gradient_bytes + at_peak.get("optimizer_state", 0)
    median = run.step_seconds.median or 1.0
    return StepProfile(
        name=run.name,
        forward_seconds=found.forward_seconds,
        backward_seconds=found.backward_seconds,
        optimizer_seconds=found.optimizer_seconds,
        gradients=found.ready,
        cuts=found.cuts,
        parameter_bytes=parameters,
        optimizer_state_bytes=at_peak.get("optimizer_state", 0),
        activation_bytes=max(run.memory.peak_bytes - kept, 0),
        low_ratio=min(run.step_seconds.low / median, 1.0),
        high_ratio=max(run.step_seconds.high / median, 1.0),
        on_gpu=run.device.kind == "cuda",
        flops_per_second=run.device.flops_per_second.value if run.device.flops_per_second is not None else None,
        memory_shares=memory_shares(run),
    )


def chunk_ends(buckets: Sequence[float], total: float) -> list[float]:
    """Return the seconds of backward before each bucket is ready and after the last, from when each is ready."""
    marks = [0.0, *(min(ready, total) for ready in buckets), total]
    return [max(right - left, 0.0) for left, right in pairwise(marks)]
