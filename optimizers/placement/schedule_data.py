"""The tasks of a data-parallel step: forward, backward in stretches, exchanges of buckets, optimizer.

Hosts alike that do the same are one lane: their use of cores and links is that of all workers of one such host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from optimizers.placement.backend_costs import BackendCost
from optimizers.placement.buckets import Bucket
from optimizers.placement.cluster import Host
from optimizers.placement.costs import Costs
from optimizers.placement.exchange import Exchange, memory, processor
from optimizers.placement.plans import StepProfile, chunk_ends
from optimizers.placement.rank_work import StepWork
from optimizers.placement.seats import Seat, Seating
from optimizers.placement.simulate import Task

COMPUTE = ("forward", "backward", "optimizer")
EXCHANGE = "exchange"


def data_parallel_tasks(
    kind: str, profile: StepProfile, buckets: Sequence[Bucket], seating: Seating, backend: BackendCost, costs: Costs
) -> list[Task]:
    """Return the tasks of a step; kind is one of plans.KINDS but "pipeline"."""
    step = _Step(profile, tuple(buckets), seating, backend, costs)
    if seating.world_size == 1:
        step.compute_alone()
    elif kind == "fully-sharded":
        step.fully_sharded()
    else:
        step.forward()
        step.backward()
        {
            "all-reduce": step.all_reduced,
            "parameter-server": step.averaged_by_one if backend.form == "all-reduce" else step.served,
            "sharded": step.sharded,
        }[kind]()
    return step.tasks


def speed_of(host: Host, profile: StepProfile) -> float:
    """Return how quick a worker of the host is against where the run was captured; 1 where either is not known."""
    if host.flops_per_second is None or not profile.flops_per_second:
        return 1.0
    return host.flops_per_second / profile.flops_per_second


def compute_uses(seat: Seat, workers: float, memory_share: float = 0.0) -> tuple[tuple[str, float], ...]:
    """Return the cores that so many workers of a host compute on, and the memory that they read and write meanwhile.

    memory_share: of what a core moves alone. A GPU is nobody else's.
    """
    return () if seat.host.gpus else ((processor(seat), workers), (memory(seat), workers * memory_share))


@dataclass
class _Step:
    """A step in the making. ready: for each bucket, the tasks after which it can be exchanged."""

    profile: StepProfile
    buckets: tuple[Bucket, ...]
    seating: Seating
    backend: BackendCost
    costs: Costs
    tasks: list[Task] = field(default_factory=list)
    forwards: dict[str, int] = field(default_factory=dict)
    backwards: dict[str, int] = field(default_factory=dict)
    ready: list[list[int]] = field(default_factory=list)

    @property
    def work(self) -> StepWork:
        return self.costs.work.get(self.backend.name, StepWork())

    def add(self, task: Task) -> int:
        self.tasks.append(task)
        return len(self.tasks) - 1

    def compute(self, seat: Seat, kind: str, seconds: float, after: Sequence[int], name: str = "") -> int:
        seconds *= (1.0 + self.costs.rates.waiting(self.seating.world_size)) / speed_of(seat.host, self.profile)
        uses = compute_uses(seat, seat.workers, self.profile.memory_share(kind))
        return self.add(Task(name or kind, seat.name, kind, seconds, uses, tuple(after)))

    def exchange(self, name: str, found: Exchange, after: Sequence[int]) -> int:
        latency = found.latency_seconds
        beside = found.beside_uses, found.beside_pace
        return self.add(Task(name, EXCHANGE, EXCHANGE, found.seconds, found.uses, tuple(after), latency, *beside))

    def compute_alone(self) -> None:
        for seat in self.seating.seats:
            first = self.compute(seat, "forward", self.profile.forward_seconds, ())
            second = self.compute(seat, "backward", self.profile.backward_seconds, (first,))
            self.compute(seat, "optimizer", self.profile.optimizer_seconds, (second,))

    def own_work(self, seat: Seat, kind: str, seconds: float, after: Sequence[int], name: str) -> int:
        """Add what a rank does beside the model; its seconds were measured while each core had one that did it."""
        rates = self.costs.rates
        cores = 0.0 if seat.host.gpus else float(seat.workers)
        uses = ((processor(seat), cores * rates.processor), (memory(seat), cores * rates.memory))
        return self.add(Task(name, seat.name, kind, seconds, uses, tuple(after)))

    def forward(self) -> None:
        seconds = self.work.seconds + sum(len(item.parameters) for item in self.buckets) * self.work.tensor_seconds
        for seat in self.seating.seats:
            before = (self.own_work(seat, "forward", seconds, (), "hooks"),) if seconds else ()
            self.forwards[seat.name] = self.compute(seat, "forward", self.profile.forward_seconds, before)

    def backward(self) -> None:
        """Add backward in stretches that end where buckets are ready."""
        chunks = chunk_ends([bucket.ready_seconds for bucket in self.buckets], self.profile.backward_seconds)
        self.ready = [[] for _ in self.buckets]
        for seat in self.seating.seats:
            last = self.forwards[seat.name]
            for place, seconds in enumerate(chunks):
                last = self.compute(seat, "backward", seconds, (last,), f"backward {place}")
                if place < len(self.buckets):
                    # What was measured is a core's copy; a GPU's is not worth a word.
                    copied = 0.0 if seat.host.gpus else self.buckets[place].bytes * self.work.byte_seconds
                    if copied:
                        last = self.own_work(seat, "backward", copied, (last,), f"into bucket {place}")
                    self.ready[place].append(last)
            self.backwards[seat.name] = last

    def in_turn(self, name: str, cost: Callable[[Bucket], Exchange], after_all: Sequence[int] = ()) -> list[int]:
        """Add an exchange for each bucket, one after the other, each once it is ready (or after `after_all`)."""
        found: list[int] = []
        for place, bucket in enumerate(self.buckets):
            after = [*(after_all or self.ready[place]), *found[-1:]]
            found.append(self.exchange(f"{name} {place}", cost(bucket), after))
        return found

    def optimizers(self, share: float, after: Sequence[int]) -> list[int]:
        return [
            self.compute(seat, "optimizer", self.profile.optimizer_seconds * share, (*after, self.backwards[seat.name]))
            for seat in self.seating.seats
        ]

    def all_reduced(self) -> None:
        wait = () if self.backend.overlaps else tuple(self.backwards.values())
        exchanged = self.in_turn("all-reduce", self._reduce, wait)
        self.optimizers(1.0, exchanged)

    def averaged_by_one(self) -> None:
        """Rank 0 averages each bucket for all; every worker steps, as after an all-reduce."""
        exchanged = self.in_turn("to rank 0 and back", self._serve)
        self.optimizers(1.0, exchanged)

    def served(self) -> None:
        """Push to rank 0, which averages and steps; then everybody pulls the parameters."""
        wait = () if self.backend.overlaps else tuple(self.backwards.values())
        half = self._half_served
        pushed = self.in_turn("push", half, wait)
        server = self.seating.seats[0]
        after = (*pushed, *self.backwards.values())
        seconds = self.profile.optimizer_seconds / speed_of(server.host, self.profile)
        uses = compute_uses(server, 1.0, self.profile.memory_share("optimizer"))
        stepped = self.add(Task("optimizer", server.name, "optimizer", seconds, uses, tuple(after)))
        self.in_turn("pull", half, (stepped,))

    def sharded(self) -> None:
        """Each worker reduces and steps its share of the parameters, then all gather the rest."""
        wait = () if self.backend.overlaps else tuple(self.backwards.values())
        scattered = self.in_turn("reduce-scatter", self._half, wait)
        stepped = self.optimizers(1.0 / self.seating.world_size, scattered)
        self.in_turn("all-gather", self._half, stepped)

    def fully_sharded(self) -> None:
        """Gather each bucket's parameters before they are used, forward and backward; scatter its gradients after."""
        chunks = chunk_ends([bucket.ready_seconds for bucket in self.buckets], self.profile.backward_seconds)
        total = sum(chunks[:-1]) or 1.0
        gathered: list[int] = []
        last: dict[str, int] = {}
        order = list(reversed(range(len(self.buckets))))
        for place in order:
            gathered.append(self.exchange(f"all-gather {place}", self._half(self.buckets[place]), gathered[-1:]))
            for seat in self.seating.seats:
                before = [last[seat.name]] if seat.name in last else []
                seconds = self.profile.forward_seconds * chunks[place] / total
                last[seat.name] = self.compute(seat, "forward", seconds, (gathered[-1], *before), f"forward {place}")
        gathered, scattered = [], list[int]()
        for place, bucket in enumerate(self.buckets):
            after = gathered[-1:] or list(last.values())
            gathered.append(self.exchange(f"all-gather again {place}", self._half(bucket), after))
            for seat in self.seating.seats:
                seconds = chunks[place] + (chunks[-1] if bucket is self.buckets[-1] else 0.0)
                done = self.compute(seat, "backward", seconds, (gathered[-1], last[seat.name]), f"backward {place}")
                last[seat.name] = done
            scattered.append(
                self.exchange(f"reduce-scatter {place}", self._half(bucket), [*last.values(), *scattered[-1:]])
            )
        self.backwards = last
        self.optimizers(1.0 / self.seating.world_size, scattered)

    def _reduce(self, bucket: Bucket) -> Exchange:
        return self.costs.reduce(bucket.bytes, len(bucket.parameters), self.seating, self.backend)

    def _serve(self, bucket: Bucket) -> Exchange:
        return self.costs.serve(bucket.bytes, self.seating, self.backend)

    def _half(self, bucket: Bucket) -> Exchange:
        return self.costs.halves(bucket.bytes, self.seating, self.backend)

    def _half_served(self, bucket: Bucket) -> Exchange:
        return self._reduce(bucket).half()
