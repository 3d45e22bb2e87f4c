"""What can be done with an idle buffer, and where it can go: swaps, recomputations, tiers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optimizers.swap.itinerary import BYTES_IN_FLIGHT
from optimizers.swap.timeline import NANOSECONDS, Gap, Int64, SwapError, Timeline


@dataclass(frozen=True, slots=True)
class Tier:
    """Memory that buffers can move to, reached over one copy lane in each direction.

    latency_seconds: what each copy takes beyond its bytes.
    capacity_bytes:  how much it holds at a time; None: more than the step could need.
    bytes_in_flight: bytes that may wait in the lane out or be on it; beyond that compute waits.
    issue_seconds:   what starting a copy, in either direction, takes of the compute's own time.
    """

    name: str
    out_bytes_per_second: float
    in_bytes_per_second: float
    latency_seconds: float = 0.0
    capacity_bytes: int | None = None
    bytes_in_flight: int = BYTES_IN_FLIGHT
    issue_seconds: float = 0.0

    def __post_init__(self) -> None:
        for speed in (self.out_bytes_per_second, self.in_bytes_per_second):
            if not 0.0 < speed < math.inf:
                raise SwapError(f"tier {self.name!r} has a bandwidth of {speed} bytes/s; give a finite one above 0")
        if not 0.0 <= self.latency_seconds < math.inf or self.bytes_in_flight < 0:
            raise SwapError(f"tier {self.name!r}: latency {self.latency_seconds} s, {self.bytes_in_flight} in flight")
        if not 0.0 <= self.issue_seconds < math.inf:
            raise SwapError(f"tier {self.name!r}: starting a copy takes {self.issue_seconds} s; give 0 or more")
        if self.capacity_bytes is not None and self.capacity_bytes < 0:
            raise SwapError(f"tier {self.name!r} holds {self.capacity_bytes} bytes; give 0 or more, or None")

    def nanoseconds(self, sizes: Int64, direction: str) -> Int64:
        """Return how long copies of these sizes take, "out" to the tier or "in" from it."""
        speed = self.out_bytes_per_second if direction == "out" else self.in_bytes_per_second
        found: Int64 = np.ceil((self.latency_seconds + sizes / speed) * NANOSECONDS).astype(np.int64)
        return found

    def out_nanoseconds(self, size: int) -> int:
        """Return how long a copy of `size` bytes to the tier takes."""
        return math.ceil((self.latency_seconds + size / self.out_bytes_per_second) * NANOSECONDS)

    def in_nanoseconds(self, size: int) -> int:
        """Return how long a copy of `size` bytes back from the tier takes."""
        return math.ceil((self.latency_seconds + size / self.in_bytes_per_second) * NANOSECONDS)


@dataclass(frozen=True, slots=True)
class Swap:
    """Copy a buffer out in one of its gaps, and back in.

    The copy out is issued at the end of event `after`, the copy in at the start of event `prefetch`.
    Event `freed_by` does not start before the copy out is done, event `before` not before the copy in is done.
    So the buffer takes no memory during the events from `freed_by` up to `prefetch`, that one excluded, however slow
    the tier is. Where the gap wraps, `freed_by` may be the number of events: the end of the step.
    """

    buffer: int
    after: int
    freed_by: int
    prefetch: int
    before: int
    tier: str

    @property
    def gap(self) -> Gap:
        """Return the gap that is used."""
        return Gap(self.buffer, self.after, self.before)


@dataclass(frozen=True, slots=True)
class Recompute:
    """Drop a buffer at the end of event `after`; make it again by its recipe just before event `before`."""

    buffer: int
    after: int
    before: int

    @property
    def gap(self) -> Gap:
        """Return the gap that is used."""
        return Gap(self.buffer, self.after, self.before)


Move = Swap | Recompute


def check_moves(timeline: Timeline, moves: Sequence[Move], tiers: Sequence[Tier]) -> None:
    """Raise SwapError where a move uses no gap of the timeline, an unknown tier, or an input that is not there."""
    gaps, names, taken = timeline.gap_set, {tier.name for tier in tiers}, set[Gap]()
    if len(names) != len(tiers):
        raise SwapError(f"two tiers have one name in {[tier.name for tier in tiers]}; give each its own")
    for move in moves:
        gap = move.gap
        if gap not in gaps or gap in taken:
            word = "is used twice" if gap in taken else "is no gap in which it may move"
            raise SwapError(f"buffer {gap.buffer}: from event {gap.after} to {gap.before} {word}")
        taken.add(gap)
        if isinstance(move, Swap):
            _check_swap(move, len(timeline.events), names)
        elif (move.buffer, move.before) not in timeline.recipe_of or gap.wraps:
            raise SwapError(f"buffer {move.buffer} has no recipe before event {move.before}; swap it or keep it")
    _check_inputs(timeline, moves)


def _check_swap(move: Swap, count: int, names: set[str]) -> None:
    if move.tier not in names:
        raise SwapError(f"buffer {move.buffer} goes to tier {move.tier!r}; known: {', '.join(sorted(names)) or 'none'}")
    if move.gap.wraps:
        ordered = move.after < move.freed_by <= count and 0 <= move.prefetch <= move.before
    else:
        ordered = move.after < move.freed_by <= move.prefetch <= move.before
    if not ordered:
        raise SwapError(
            f"buffer {move.buffer}: after {move.after}, freed_by {move.freed_by}, prefetch {move.prefetch}, "
            f"before {move.before} are not in order"
        )


def _check_inputs(timeline: Timeline, moves: Sequence[Move]) -> None:
    away: dict[int, list[Move]] = {}
    for move in moves:
        away.setdefault(move.buffer, []).append(move)
    for move in moves:
        if isinstance(move, Recompute):
            for index in timeline.recipe_of[move.buffer, move.before].inputs:
                if any(is_away(timeline, other, move) for other in away.get(index, ())):
                    raise SwapError(f"buffer {move.buffer} is made again from buffer {index}, which is away then")


def is_away(timeline: Timeline, source: Move, remade: Recompute) -> bool:
    """Return whether `source` keeps its buffer away when `remade` needs it.

    Of two that are made again before one event the one that was born first comes first.
    """
    if isinstance(source, Recompute) and source.before == remade.before:
        return order_of(timeline, source) >= order_of(timeline, remade)
    return is_inside(source.gap, remade.before)


def order_of(timeline: Timeline, move: Move) -> tuple[int, int]:
    """Return what sorts the buffers that are made again before one event."""
    return timeline.buffers[move.buffer].born, move.buffer


def is_inside(gap: Gap, event: int) -> bool:
    """Return whether the event lies in the gap, its ends excluded."""
    return is_between(gap.after, gap.before, event)


def is_between(after: int, before: int, event: int) -> bool:
    """Return whether the event lies between two uses of a buffer, over the end of the step where before <= after."""
    return event > after or event < before if before <= after else after < event < before
