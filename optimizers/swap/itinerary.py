"""A plan as the engine carries it out: what is done at which mark of a step, in plain values that can be saved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

LEAVE, FREE, FETCH, REMAKE = range(4)
BYTES_IN_FLIGHT = 64 << 20
"""What may wait for a copy out, or be on it, at a time."""


@dataclass(frozen=True, slots=True)
class Activation:
    """A saved storage that the engine follows: one that moves, or one that others are made again from.

    positions: saved tensors that stand on it, by their place among all that the forward saves.
    """

    buffer: int
    storage: int
    bytes: int
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class State:
    """A tensor of the optimizer's state that moves, by its parameter's place in the optimizer and its name."""

    buffer: int
    parameter: int
    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class OpToRepeat:
    """An op of the forward. arguments, outputs: storages in order; known: those that were there before the forward."""

    index: int
    name: str
    arguments: tuple[int, ...]
    outputs: tuple[int, ...]
    known: tuple[int, ...]
    random: bool


@dataclass(frozen=True, slots=True)
class Trip:
    """One buffer's move: it leaves after event `after` and is back before event `before`.

    offset: place in the tier's file.    ops: what makes it again; empty for a swap.
    """

    buffer: int
    bytes: int
    after: int
    freed_by: int
    prefetch: int
    before: int
    tier: str
    offset: int
    ops: tuple[int, ...]

    @property
    def is_swap(self) -> bool:
        """Return whether it is copied out; else it is made again."""
        return not self.ops


@dataclass(frozen=True, slots=True)
class Itinerary:
    """All trips of a step with `marks` marks.

    file_bytes: what the tier's file holds.    chunk_bytes: what a lane copies at a time.
    """

    marks: int
    activations: tuple[Activation, ...]
    state: tuple[State, ...]
    ops: tuple[OpToRepeat, ...]
    trips: tuple[Trip, ...]
    file_bytes: int
    chunk_bytes: int

    def actions(self) -> dict[int, tuple[tuple[int, Trip], ...]]:
        """Return, by mark, what is done at it: copies out issued, waited for, copies in issued, things made again."""
        found: dict[int, list[tuple[int, int, Trip]]] = defaultdict(list)
        for trip in self.trips:
            for event, kind in self._times(trip):
                # Event 0 ends at mark 0: what precedes it happens there, the earliest that a step shows itself.
                found[min(max(event, 0), self.marks - 1)].append((kind, trip.buffer, trip))
        return {mark: tuple((kind, trip) for kind, _, trip in sorted(items, key=lambda item: item[:2]))
                for mark, items in found.items()}  # fmt: skip

    def _times(self, trip: Trip) -> Iterator[tuple[int, int]]:
        yield trip.after, LEAVE
        if not trip.is_swap:
            yield trip.before - 1, REMAKE
            return
        # The end of a step is seen when the next one begins.
        yield (0 if trip.freed_by > self.marks else trip.freed_by - 1), FREE
        yield trip.prefetch - 1, FETCH
