"""When each stage of a loop runs: software pipelining over trips, so that the layers of a step run as a wavefront.

Stage s of trip t runs in tick `period * t + delay[s]`; all that runs in one tick runs at once, and a grid barrier ends
it. Whatever two stages do to the same bytes, one of them writing, stays in the order that the loop gives it, in
different ticks: layer 2 works on step t while layer 1 works on step t + 1, as far as the memory between them allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kernels.compiler.loop_ir import LoopProgram
from kernels.recurrent.loop_stages import LoopError, Stages, Touch, stages_of


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages of a loop and when they run. ticks: how many there are."""

    stages: Stages
    period: int
    delays: tuple[int, ...]
    ticks: int

    def active(self, tick: int) -> Iterator[tuple[int, int]]:
        """Yield stage and trip of all that runs in a tick."""
        for stage, delay in enumerate(self.delays):
            trip, rest = divmod(tick - delay, self.period)
            if not rest and 0 <= trip < self.stages.program.trips:
                yield stage, trip


@dataclass(frozen=True, slots=True)
class Order:
    """Stage `before` in trip t must have ended before stage `after` begins in trip t + `distance`."""

    before: int
    after: int
    distance: int


def pipelined(stages: Stages) -> Pipeline:
    """Return the schedule with the shortest period.

    Raises LoopError where no order of its stages is right, as where a product's factor is overwritten by its reader.
    """
    count = len(stages.stages)
    orders = set(_orders(stages))
    for period in range(1, count + 1):
        delays = _delays(orders, count, period)
        if delays is not None:
            return Pipeline(stages, period, delays, period * (stages.program.trips - 1) + max(delays) + 1)
    raise LoopError("a product reads what its own step overwrites")


def planned(program: LoopProgram) -> Pipeline:
    """Return the schedule of a loop, its products within the stages that read them where that can be.

    Raises LoopError for a loop that the persistent kernel cannot run, IrError for an invalid one.
    """
    try:
        return pipelined(stages_of(program))
    except LoopError:
        return pipelined(stages_of(program, fused=False))


def _orders(stages: Stages) -> Iterator[Order]:
    program, all_stages = stages.program, stages.stages
    farthest = min(len(all_stages), program.trips - 1)
    for first, one in enumerate(all_stages):
        for second, other in enumerate(all_stages):
            for distance in range(farthest + 1):
                if _conflict(stages, one.touches, other.touches, distance):
                    yield Order(first, second, distance)


def _conflict(stages: Stages, one: tuple[Touch, ...], other: tuple[Touch, ...], distance: int) -> bool:
    """Return whether some touch of `one` meets a later one of `other`, so many trips on, with a write between them."""
    return any(
        _meet(stages, a, b, distance)
        for a in one
        for b in other
        if a.window.buffer == b.window.buffer and (a.written or b.written) and (distance or a.position < b.position)
    )


def _meet(stages: Stages, one: Touch, other: Touch, distance: int) -> bool:
    # With equal steps how far two windows are apart depends on the trip's parity alone.
    trips = stages.program.trips - distance
    checked = range(min(trips, 2) if one.window.step == other.window.step else trips)
    for trip in checked:
        first, second = one.window.begin(trip), other.window.begin(trip + distance)
        if first < second + other.nbytes and second < first + one.nbytes:
            return True
    return False


def _delays(orders: set[Order], count: int, period: int) -> tuple[int, ...] | None:
    """Return the smallest delays that keep the orders, None where none do: the longest paths, without a cycle."""
    delays = [0] * count
    for _ in range(count + 1):
        changed = False
        for order in orders:
            least = delays[order.before] + 1 - order.distance * period
            if delays[order.after] < least:
                delays[order.after], changed = least, True
        if not changed:
            return tuple(delays)
    return None
