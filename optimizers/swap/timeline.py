"""A step as the swap planner sees it: events in order, the storages that they use, and when each lies idle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from optimizers.swap.errors import SwapError as SwapError

NANOSECONDS = 1_000_000_000
Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Event:
    """One stretch of compute: an op of the run with all that it calls. `op` is its index in Graph.ops."""

    op: int
    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Buffer:
    """One storage, however many views stand on it.

    index:      position in Timeline.buffers.
    storage:    its identity in the run's graph.
    born:       event that allocates it; -1 when it existed before the step.
    uses:       events that read, write or view it, ascending; the first is `born` where that lies in the step.
    released:   event at whose end it is freed; None when it outlives the step.
    tensors:    versions and views that stand on it.
    left_alone: why it is never moved; "" when it may be.
    """

    index: int
    storage: int
    bytes: int
    category: str
    born: int
    uses: tuple[int, ...]
    released: int | None
    tensors: int = 1
    left_alone: str = ""


class Gap(NamedTuple):
    """A buffer lies idle from the end of event `after` to the start of event `before`.

    before <= after: the gap runs over the end of the step to the next one's event `before`.
    """

    buffer: int
    after: int
    before: int

    @property
    def wraps(self) -> bool:
        """Return whether the gap runs into the next step."""
        return self.before <= self.after


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a buffer can be made again just before event `before`.

    events:  those to repeat, in order.    inputs: buffers that must be resident then, unchanged since.
    scratch_bytes: memory that the repetition takes beside the buffer itself, given back when it is done.
    """

    buffer: int
    before: int
    events: tuple[int, ...]
    inputs: tuple[int, ...]
    seconds: float
    scratch_bytes: int = 0


@dataclass(frozen=True)
class Timeline:
    """A step. constant_bytes: live throughout the step, and in no buffer (what the capture could not attribute)."""

    events: tuple[Event, ...]
    buffers: tuple[Buffer, ...]
    constant_bytes: int = 0
    recipes: tuple[Recipe, ...] = ()
    notes: tuple[str, ...] = ()

    def check(self) -> Timeline:
        """Return the timeline itself. Raises SwapError where it contradicts itself."""
        count = len(self.events)
        for event in self.events:
            if not 0.0 <= event.seconds < float("inf"):
                raise SwapError(f"event {event.name!r} takes {event.seconds} seconds; give a finite time of 0 or more")
        for position, buffer in enumerate(self.buffers):
            _check_buffer(position, buffer, count)
        for recipe in self.recipes:
            self._check_recipe(recipe)
        if self.constant_bytes < 0:
            raise SwapError(f"constant_bytes is {self.constant_bytes}; give 0 or more")
        return self

    def _check_recipe(self, recipe: Recipe) -> None:
        known = range(len(self.buffers))
        if recipe.buffer not in known or any(index not in known for index in recipe.inputs):
            raise SwapError(f"a recipe names buffer {recipe.buffer} from {recipe.inputs}; there are {len(known)}")
        if any(not 0 <= event < recipe.before for event in recipe.events) or recipe.before >= len(self.events):
            raise SwapError(f"recipe of buffer {recipe.buffer} repeats events {recipe.events} before {recipe.before}")
        if not 0.0 <= recipe.seconds < float("inf") or recipe.scratch_bytes < 0:
            raise SwapError(f"recipe of buffer {recipe.buffer}: {recipe.seconds} s, {recipe.scratch_bytes} bytes")
        for index in recipe.inputs:
            if not self.is_live(index, recipe.before):
                raise SwapError(f"recipe of buffer {recipe.buffer}: input {index} is gone at event {recipe.before}")

    def is_live(self, buffer: int, event: int) -> bool:
        """Return whether the buffer exists during the event when nothing is moved."""
        found = self.buffers[buffer]
        return found.born <= event and (found.released is None or event <= found.released)

    @cached_property
    def nanoseconds(self) -> Int64:
        """Return each event's duration, rounded: the simulator's clock is exact."""
        seconds = np.array([event.seconds for event in self.events], dtype=np.float64)
        found: Int64 = np.rint(seconds * NANOSECONDS).astype(np.int64)
        return found

    @cached_property
    def starts(self) -> Int64:
        """Return when each event starts if none waits, in nanoseconds; one more entry: the end of the step."""
        return np.concatenate(([0], np.cumsum(self.nanoseconds))).astype(np.int64)

    @cached_property
    def live_bytes(self) -> Int64:
        """Return the bytes live during each event when nothing is moved."""
        change = self.born_bytes.copy()
        change[1:] -= self.released_bytes[:-1]
        found: Int64 = np.cumsum(change) + self.base_bytes
        return found

    @cached_property
    def born_bytes(self) -> Int64:
        """Return the bytes that each event allocates."""
        inside = self.born >= 0
        return self._summed(self.born[inside], self.buffer_bytes[inside])

    @cached_property
    def released_bytes(self) -> Int64:
        """Return the bytes that are freed at the end of each event."""
        released = [-1 if buffer.released is None else buffer.released for buffer in self.buffers]
        events = np.array(released, dtype=np.int64)
        inside = events >= 0
        return self._summed(events[inside], self.buffer_bytes[inside])

    def _summed(self, events: Int64, sizes: Int64) -> Int64:
        found = np.zeros(len(self.events), dtype=np.int64)
        np.add.at(found, events, sizes)
        return found

    @cached_property
    def born(self) -> Int64:
        """Return the event that allocates each buffer, -1 where it existed before."""
        return np.array([buffer.born for buffer in self.buffers], dtype=np.int64)

    @cached_property
    def buffer_bytes(self) -> Int64:
        """Return the bytes of each buffer."""
        return np.array(self.sizes, dtype=np.int64)

    @property
    def seconds(self) -> float:
        """Return the step's compute time, nothing moved."""
        return int(self.starts[-1]) / NANOSECONDS

    @property
    def peak_bytes(self) -> int:
        """Return the highest live bytes of the step, nothing moved."""
        return int(self.live_bytes.max(initial=self.base_bytes))

    @cached_property
    def base_bytes(self) -> int:
        """Return the bytes live before the first event, nothing moved."""
        return self.constant_bytes + int(self.buffer_bytes[self.born < 0].sum())

    @cached_property
    def gaps(self) -> tuple[Gap, ...]:
        """Return the idle gaps of the buffers that may be moved, each with at least one event in it."""
        return tuple(Gap(*row) for row in self.gap_rows.tolist())

    @cached_property
    def gap_set(self) -> frozenset[Gap]:
        """Return the gaps as a set."""
        return frozenset(self.gaps)

    @cached_property
    def sizes(self) -> list[int]:
        """Return the bytes of each buffer."""
        return [buffer.bytes for buffer in self.buffers]

    @cached_property
    def gap_sizes(self) -> Int64:
        """Return the bytes of each gap's buffer."""
        return self.buffer_bytes[self.gap_rows[:, 0]]

    @cached_property
    def gap_rows(self) -> Int64:
        """Return the gaps as rows of (buffer, after, before)."""
        # Plain numbers in one list: thousands of small objects would set off the garbage collector.
        found, count = list[int](), len(self.events)
        for buffer in self.buffers:
            if not buffer.left_alone and buffer.bytes:
                _add_gaps(found, buffer, count)
        return np.array(found, dtype=np.int64).reshape(-1, 3)

    @cached_property
    def gap_wraps(self) -> NDArray[np.bool_]:
        """Return which gaps run into the next step."""
        found: NDArray[np.bool_] = self.gap_rows[:, 2] <= self.gap_rows[:, 1]
        return found

    @cached_property
    def gap_nanoseconds(self) -> Int64:
        """Return how long each gap lasts if no event waits."""
        after, before = self.gap_rows[:, 1], self.gap_rows[:, 2]
        length: Int64 = self.starts[before] - self.starts[after + 1]
        return length + np.where(self.gap_wraps, self.starts[-1], 0)

    @cached_property
    def gap_events(self) -> Int64:
        """Return how many events each gap has."""
        length: Int64 = self.gap_rows[:, 2] - self.gap_rows[:, 1] - 1
        return length + np.where(self.gap_wraps, len(self.events), 0)

    @cached_property
    def recipe_of(self) -> dict[tuple[int, int], Recipe]:
        """Return the recipes by (buffer, event before which it is made again)."""
        return {(recipe.buffer, recipe.before): recipe for recipe in self.recipes}

    @cached_property
    def gap_remaking_seconds(self) -> NDArray[np.float64]:
        """Return how long it takes to make each gap's buffer again; infinite where that cannot be done."""
        found = np.full(len(self.gap_rows), np.inf)
        straight, width = np.flatnonzero(~self.gap_wraps), len(self.events) + 1
        if not self.recipes or not len(straight):
            return found
        rows = self.gap_rows[straight]
        # Gaps are listed by buffer, a buffer's in the order of its uses: so are these numbers.
        gaps = rows[:, 0] * width + rows[:, 2]
        wanted = np.array([recipe.buffer * width + recipe.before for recipe in self.recipes], dtype=np.int64)
        places = np.minimum(np.searchsorted(gaps, wanted), len(gaps) - 1)
        known = gaps[places] == wanted
        seconds = np.array([recipe.seconds for recipe in self.recipes])
        found[straight[places[known]]] = seconds[known]
        return found

    def gap_seconds(self, gap: Gap) -> float:
        """Return how long the gap lasts if no event waits."""
        length = int(self.starts[gap.before] - self.starts[gap.after + 1])
        return (length + (int(self.starts[-1]) if gap.wraps else 0)) / NANOSECONDS


def _check_buffer(position: int, buffer: Buffer, count: int) -> None:
    if buffer.index != position or buffer.bytes < 0:
        raise SwapError(f"buffer at {position} has index {buffer.index} and {buffer.bytes} bytes")
    last = count - 1 if buffer.released is None else buffer.released
    ordered = all(left < right for left, right in pairwise(buffer.uses))
    if not -1 <= buffer.born < max(count, 1) or not max(buffer.born, 0) <= last < max(count, 1):
        raise SwapError(f"buffer {position} lives from event {buffer.born} to {buffer.released} of {count} events")
    if not ordered or (buffer.uses and not max(buffer.born, 0) <= buffer.uses[0] <= buffer.uses[-1] <= last):
        raise SwapError(f"buffer {position}, live from {buffer.born} to {last}, has uses {buffer.uses[:8]}")


def _add_gaps(found: list[int], buffer: Buffer, count: int) -> None:
    uses = buffer.uses
    for after, before in pairwise(uses):
        if before - after > 1:
            found += (buffer.index, after, before)
    if uses and buffer.born < 0 and buffer.released is None and uses[0] + count - uses[-1] > 1:
        found += (buffer.index, uses[-1], uses[0])
