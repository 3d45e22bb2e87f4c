"""Where a prediction takes its costs from: what was measured on this machine, else links and software of a cluster."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, replace

from optimizers.placement.backend_costs import BackendCost
from optimizers.placement.exchange import Exchange, all_reduce, memory, processor, scatter_or_gather, through_server
from optimizers.placement.rank_work import Beside, StepWork, expected_slowest
from optimizers.placement.seats import Seating


@dataclass(frozen=True, slots=True)
class Point:
    """What one exchange of so many bytes took (the median), and the processor time of all ranks together.

    low_ratio, high_ratio: the quartiles of the exchanges that were measured, over their median.
    """

    bytes: int
    seconds: float
    processor_seconds: float
    low_ratio: float = 1.0
    high_ratio: float = 1.0


@dataclass(frozen=True, slots=True)
class Rates:
    """What one core gives while all are busy, against one that is busy alone: 1 where they are in no one's way.

    processor: of arithmetic in caches.    memory: of bytes from memory, which all cores of a host share.
    slowest: how much longer the slower of two workers computes than both on average, of it: each step waits for it.
    """

    processor: float = 1.0
    memory: float = 1.0
    slowest: float = 0.0

    def waiting(self, workers: int) -> float:
        """Return how much longer the slowest of so many workers computes than all on average, of it."""
        return self.slowest * expected_slowest(workers) / expected_slowest(2)


@dataclass(frozen=True, slots=True)
class MeasuredExchange:
    """A backend's exchange between `world_size` processes of one host, over rising sizes. source: when and where.

    beside: the same while all cores compute; None where there was a core for everybody.
    """

    backend: str
    world_size: int
    points: tuple[Point, ...]
    source: str
    beside: Beside | None = None

    @property
    def message_seconds(self) -> float:
        """Return what a message takes that carries next to nothing."""
        return self.points[0].seconds

    def at(self, size: float) -> tuple[float, float]:
        """Return seconds and processor seconds of an exchange: a straight line between the sizes that were measured."""
        points = self.points
        if size <= points[0].bytes or len(points) == 1:
            share = max(size / points[0].bytes, 1.0) if points[0].bytes else 1.0
            return points[0].seconds * share, points[0].processor_seconds * share
        place = min(max(bisect_left([point.bytes for point in points], size), 1), len(points) - 1)
        left, right = points[place - 1], points[place]
        share = (size - left.bytes) / (right.bytes - left.bytes)
        seconds = left.seconds + share * (right.seconds - left.seconds)
        spent = left.processor_seconds + share * (right.processor_seconds - left.processor_seconds)
        return max(seconds, points[0].seconds), max(spent, 0.0)

    def quartile(self, side: int) -> MeasuredExchange:
        """Return it with the lower quartiles (side -1) or the upper ones (1) as its seconds; itself for 0."""
        if side == 0:
            return self
        points = tuple(
            replace(item, seconds=item.seconds * (item.low_ratio if side < 0 else item.high_ratio))
            for item in self.points
        )
        return replace(self, points=points)


@dataclass(frozen=True, slots=True)
class Costs:
    """Everything that a prediction needs beside the step and the plan.

    measured: exchanges of this machine; they win over links where backend and world size are the same.
    rates: what a core gives when all are busy.
    work: what a step takes more on a rank than alone, its exchange aside, by backend.
    slower: factor on all that is not measured here, for the low and high of an estimate.
    side: -1, 0, 1: lower quartiles, medians or upper quartiles of what was measured.
    """

    measured: tuple[MeasuredExchange, ...] = ()
    rates: Rates = field(default_factory=Rates)
    work: dict[str, StepWork] = field(default_factory=dict)
    slower: float = 1.0
    side: int = 0

    def find(self, backend: BackendCost, seating: Seating) -> MeasuredExchange | None:
        """Return what was measured of a backend for a world on one host; None where nothing was."""
        if seating.hosts > 1:
            return None
        wanted = backend.name, seating.world_size
        found = next((item for item in self.measured if (item.backend, item.world_size) == wanted), None)
        return None if found is None else found.quartile(self.side)

    def reduce(self, size: int, messages: int, seating: Seating, backend: BackendCost) -> Exchange:
        """Return the exchange after which every worker has the mean of `size` bytes of gradients."""
        found = self.find(backend, seating)
        count = messages if backend.unit == "tensor" else 1
        if found is not None:
            return self._from_measured(found, size, count, seating)
        if backend.form == "all-reduce":
            return self._slowed(all_reduce(size, seating, backend), seating)
        return self._slowed(_there_and_back(size, count, seating, backend), seating)

    def serve(self, size: int, seating: Seating, backend: BackendCost) -> Exchange:
        """Return the exchange of `size` bytes where rank 0 averages for all, of a backend that also all-reduces."""
        found = self.find(backend, seating)
        if found is None:
            return self._slowed(_there_and_back(size, 1, seating, backend), seating)
        # Rank 0 alone does what all do together in an all-reduce: as many bytes, read and written by one of them.
        whole = self._from_measured(found, size, 1, seating)
        count = seating.world_size
        rest = max(whole.seconds - found.message_seconds, 0.0)
        uses, beside = (
            tuple((name, units / count) for name, units in whole_uses) for whole_uses in (whole.uses, whole.beside_uses)
        )
        seconds = found.message_seconds + count * rest
        return Exchange(0.0, seconds, uses, "rank 0, from what was measured here", beside, whole.beside_pace)

    def halves(self, size: int, seating: Seating, backend: BackendCost) -> Exchange:
        """Return a reduce-scatter, or an all-gather, of `size` bytes."""
        found = self.find(backend, seating)
        if found is not None and backend.form == "all-reduce":
            whole = self._from_measured(found, size, 1, seating)
            return replace(whole.half(), algorithm="half an all-reduce")
        return self._slowed(scatter_or_gather(size, seating, backend), seating)

    def _from_measured(self, found: MeasuredExchange, size: int, messages: int, seating: Seating) -> Exchange:
        seconds, spent = found.at(size)
        seconds += (messages - 1) * found.message_seconds
        spent += (messages - 1) * found.points[0].processor_seconds
        seat = seating.seats[0]
        cores = min(spent / seconds, float(seat.host.cores)) if seconds > 0 else 0.0
        # What its own processes took from each other is in the measured seconds.
        uses = ((processor(seat), cores * self.rates.processor), (memory(seat), cores * self.rates.memory))
        crowded = found.beside
        if crowded is None:
            return Exchange(0.0, seconds, uses, "as measured here")
        beside = ((processor(seat), crowded.processor), (memory(seat), crowded.memory))
        return Exchange(0.0, seconds, uses, "as measured here", beside, crowded.pace)

    def _slowed(self, found: Exchange, seating: Seating) -> Exchange:
        """Return it with the low's or high's factor; a core that moves bytes also uses memory."""
        names = {processor(seat): memory(seat) for seat in seating.seats}
        moved = tuple((names[name], units * self.rates.memory) for name, units in found.uses if name in names)
        seconds, latency = found.seconds * self.slower, found.latency_seconds * self.slower
        return Exchange(latency, seconds, (*found.uses, *moved), found.algorithm)


def _there_and_back(size: int, messages: int, seating: Seating, backend: BackendCost) -> Exchange:
    one_way = through_server(size, messages, seating, backend)
    return Exchange(2 * one_way.latency_seconds, 2 * one_way.seconds, one_way.uses, one_way.algorithm)
