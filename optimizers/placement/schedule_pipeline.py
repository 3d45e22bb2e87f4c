"""The tasks of a pipelined step: micro-batches go through the stages and come back; rows of stages train in parallel.

All forwards of a stage come before its backwards (Huang et al. 2019, arXiv:1811.06965). Rows are alike: one is
simulated, and what it uses of a host's cores and links is taken for all rows of that host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from optimizers.placement.backend_costs import BackendCost
from optimizers.placement.costs import Costs
from optimizers.placement.exchange import (
    Exchange,
    Uses,
    inside,
    memory,
    message_seconds,
    outside,
    processor,
    software_pace,
)
from optimizers.placement.plans import StepProfile
from optimizers.placement.schedule_data import EXCHANGE, compute_uses, speed_of
from optimizers.placement.seats import Seat, Seating, seat
from optimizers.placement.simulate import Task
from optimizers.placement.stages import Stage


def pipeline_tasks(
    profile: StepProfile,
    stages: Sequence[Stage],
    micro_batches: int,
    seating: Seating,
    backend: BackendCost,
    costs: Costs,
) -> list[Task]:
    """Return the tasks of one row of stages; a row does the work of as many workers as it has stages."""
    row = _Row(profile, tuple(stages), micro_batches, seating, backend, costs)
    row.forwards()
    row.backwards()
    row.finish()
    return row.tasks


@dataclass
class _Row:
    profile: StepProfile
    stages: tuple[Stage, ...]
    micro_batches: int
    seating: Seating
    backend: BackendCost
    costs: Costs
    tasks: list[Task] = field(default_factory=list)
    last: dict[int, int] = field(default_factory=dict)
    arrived: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Return how much of a worker's batch one micro-batch is."""
        return len(self.stages) / self.micro_batches

    def add(self, task: Task) -> int:
        self.tasks.append(task)
        return len(self.tasks) - 1

    def seat_of(self, stage: int) -> Seat:
        name = self.seating.cluster.places[self.seating.hosts_of_ranks[stage]].name
        return next(item for item in self.seating.seats if item.host.name == name)

    def alike(self, stage: int) -> int:
        """Return how many workers of the stage's host do the same stage."""
        home, count = self.seating.hosts_of_ranks[stage], len(self.stages)
        ranks = range(stage, self.seating.world_size, count)
        return sum(self.seating.hosts_of_ranks[rank] == home for rank in ranks)

    def compute(self, stage: int, kind: str, seconds: float, after: Sequence[int], name: str) -> int:
        place = self.seat_of(stage)
        before = [self.last[stage]] if stage in self.last else []
        seconds /= speed_of(place.host, self.profile)
        uses = compute_uses(place, self.alike(stage), self.profile.memory_share(kind))
        self.last[stage] = self.add(Task(name, f"stage {stage}", kind, seconds, uses, (*after, *before)))
        return self.last[stage]

    def hand_over(self, left: int, right: int, size: float, after: int, name: str) -> int:
        link = self.seating.link(left, right)
        pace = max(1.0 / link.bytes_per_second, software_pace(link, self.backend)) * self.costs.slower
        source, target = self.seat_of(left), self.seat_of(right)
        crosses = self.seating.hosts_of_ranks[left] != self.seating.hosts_of_ranks[right]
        where = (outside if crosses else inside)(source)
        units = self.alike(left) if crosses else 1.0
        uses: Uses = ((where, units / link.bytes_per_second / pace * self.costs.slower),)
        if crosses and target != source:
            uses = (*uses, (outside(target), units / link.bytes_per_second / pace * self.costs.slower))
        latency = (link.alpha_seconds + message_seconds([link], self.backend)) * self.costs.slower
        return self.add(Task(name, EXCHANGE, EXCHANGE, size * pace, uses, (after,), latency))

    def forwards(self) -> None:
        for micro in range(self.micro_batches):
            for number, stage in enumerate(self.stages):
                after = [self.arrived[number, micro]] if number else []
                done = self.compute(number, "forward", stage.forward_seconds * self.share, after, f"forward {micro}")
                if number + 1 < len(self.stages):
                    size = stage.handed_bytes * self.share
                    self.arrived[number + 1, micro] = self.hand_over(number, number + 1, size, done, f"out {micro}")

    def backwards(self) -> None:
        returned: dict[tuple[int, int], int] = {}
        for micro in reversed(range(self.micro_batches)):
            for number in reversed(range(len(self.stages))):
                after = [returned[number, micro]] if (number, micro) in returned else []
                seconds = self.stages[number].backward_seconds * self.share
                done = self.compute(number, "backward", seconds, after, f"backward {micro}")
                if number:
                    size = self.stages[number - 1].handed_bytes * self.share
                    returned[number - 1, micro] = self.hand_over(number, number - 1, size, done, f"back {micro}")

    def finish(self) -> None:
        """Add each stage's all-reduce over the rows, where there are several, and its optimizer."""
        rows = self.seating.world_size // len(self.stages)
        whole = sum(stage.parameter_bytes for stage in self.stages) or 1
        for number, stage in enumerate(self.stages):
            after: list[int] = []
            if rows > 1:
                found, uses = self.over_rows(stage.parameter_bytes, rows)
                task = Task(f"all-reduce {number}", EXCHANGE, EXCHANGE, found.seconds, uses, (self.last[number],))
                after = [self.add(replace(task, latency_seconds=found.latency_seconds))]
            seconds = self.profile.optimizer_seconds * stage.parameter_bytes / whole
            self.compute(number, "optimizer", seconds, after, "optimizer")

    def over_rows(self, size: int, rows: int) -> tuple[Exchange, Uses]:
        """Return the all-reduce of one stage over all rows, whose ring takes every so many-th rank."""
        others = seat(self.seating.cluster, rows, "spread" if self.seating.hosts > 1 else "packed")
        found = self.costs.reduce(size, 1, others, self.backend)
        # A host with fewer ranks of the ring is still the same host, with the same card.
        names: dict[str, str] = {}
        for few in others.seats:
            full = next((item for item in self.seating.seats if item.host.name == few.host.name), None)
            if full is not None:
                names |= {where(few): where(full) for where in (inside, outside, processor, memory)}
        return found, tuple((names[name], units) for name, units in found.uses if name in names)
