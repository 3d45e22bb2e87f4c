"""The step with its moves, event by event, on an exact clock of nanoseconds: memory, copies and waiting.

What happens, in this order:

1. Before event k: wait until the copies out that are `freed_by` k are done; issue the copies in with `prefetch` k;
   wait until the copies in that are needed `before` k are done; then make again what is recomputed before k.
2. Event k starts and allocates what is born in it. It runs. At its end it frees what is released in it.
3. Then the copies out `after` k are issued. While more than the tier's bytes_in_flight would wait or be on their way,
   the compute waits (a single copy larger than that goes alone).

Each tier has one lane out and one lane in; a lane does one copy at a time, in the order of issue. A buffer that leaves
holds its memory until its copy is done; one that returns holds it from the start of its copy, which comes after its
copy out. What is remade holds its memory, and its scratch, from the start of the recomputation. The step is over when
its last event and all copies out are. A gap that wraps starts the step in its tier. At one instant memory is freed
before it is allocated, but a return may count before the release of the same instant.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from optimizers.swap.moves import Move, Recompute, Swap, Tier, check_moves, order_of
from optimizers.swap.timeline import NANOSECONDS, Int64, Timeline

# What comes first at one instant: copies out that are done, then around each event its recomputations, the mark of
# its begin, its returns, what it allocates, what it frees. An event has 8 places.
FIRST, REMAKE, MARK, RETURN, START, END = -5, -4, -2, -1, 0, 1
_KINDS = 5
_FREE, _FETCH, _NEED, _REMAKE, _LEAVE = range(_KINDS)


class Copy(NamedTuple):
    """One copy on a lane; direction is "out" or "in". Seconds since the step began."""

    buffer: int
    tier: str
    direction: str
    bytes: int
    issued_seconds: float
    start_seconds: float
    end_seconds: float


Span = tuple[int, str, str, int, int, int, int]


@dataclass(frozen=True)
class Simulation:
    """A step as simulated, never measured.

    peak_bytes:  highest live bytes.    base_bytes: those before the first event with nothing moved.
    bound_bytes: what the peak stays under at any bandwidth, for the copies are waited for.
    waiting_seconds: compute time lost to copies.    recompute_seconds: compute time spent on making again.
    event_starts: seconds.    event_bytes: highest live bytes from each event's start to the next one's.
    spans: the copies as (buffer, tier, direction, bytes, issued, start, end), in nanoseconds.
    """

    peak_bytes: int
    bound_bytes: int
    base_bytes: int
    step_seconds: float
    waiting_seconds: float
    recompute_seconds: float
    event_starts: tuple[float, ...]
    event_bytes: tuple[int, ...]
    spans: tuple[Span, ...]

    @cached_property
    def copies(self) -> tuple[Copy, ...]:
        """Return the copies in the order of issue."""
        return tuple(
            Copy(buffer, tier, direction, size, issued / NANOSECONDS, start / NANOSECONDS, end / NANOSECONDS)
            for buffer, tier, direction, size, issued, start, end in self.spans
        )

    @property
    def peak_over_base_bytes(self) -> int:
        """Return the peak less what is live before the step with nothing moved."""
        return self.peak_bytes - self.base_bytes


def simulate(timeline: Timeline, moves: Sequence[Move], tiers: Sequence[Tier]) -> Simulation:
    """Return the step with these moves. Raises SwapError for moves that cannot be made (check_moves)."""
    check_moves(timeline, moves, tiers)
    return SimulatedStep(timeline, moves, tiers).finish()


def bound_curve(timeline: Timeline, moves: Sequence[Move]) -> Int64:
    """Return for each event the bytes that may be live from its start to the next one's, at any bandwidth."""
    count, sizes, recipes = len(timeline.events), timeline.sizes, timeline.recipe_of
    change = [0] * (count + 2)
    for move in moves:
        size = sizes[move.buffer]
        for begin, end in away_events(move, count):
            change[begin] -= size
            change[end] += size
        if isinstance(move, Recompute):
            scratch = recipes[move.buffer, move.before].scratch_bytes
            change[move.before] += scratch
            change[move.before + 1] -= scratch
    return timeline.live_bytes + np.cumsum(np.array(change, dtype=np.int64))[:count]


def resident_at_start(timeline: Timeline, moves: Sequence[Move]) -> int:
    """Return the bytes live before the first event: what a gap that wraps keeps away is not."""
    away = (timeline.buffers[move.buffer].bytes for move in moves if move.before <= move.after)
    return timeline.base_bytes - sum(away)


def away_events(move: Move, count: int) -> tuple[tuple[int, int], ...]:
    """Return the ranges of events (end excluded) during which the buffer surely takes no memory."""
    if isinstance(move, Recompute):
        return ((move.after + 1, move.before),)
    if move.before <= move.after:
        return ((0, move.prefetch), (move.freed_by, count))
    return ((move.freed_by, move.prefetch),)


class SimulatedStep:
    """The clock, the lanes and the changes of memory. A change is (time, place in the order, bytes)."""

    def __init__(self, timeline: Timeline, moves: Sequence[Move], tiers: Sequence[Tier]) -> None:
        self.timeline = timeline
        # Of several at one event: the one that is needed first, then the first born; so the order is one.
        self.moves = sorted(moves, key=lambda move: (move.before, *order_of(timeline, move)))
        self.sizes = [timeline.sizes[move.buffer] for move in self.moves]
        self.tiers = {tier.name: tier for tier in tiers}
        self.starts: list[int] = timeline.starts.tolist()
        self.delay = self.waiting = self.remaking = 0
        self.delayed = [0] * (len(timeline.events) + 1)
        self.out_free = dict.fromkeys(self.tiers, 0)
        self.in_free = dict.fromkeys(self.tiers, 0)
        self.flying: dict[str, deque[tuple[int, int]]] = {name: deque() for name in self.tiers}
        self.flying_bytes = dict.fromkeys(self.tiers, 0)
        self.out_ends = [0] * len(self.moves)
        self.in_ends = [0] * len(self.moves)
        self.changes: list[tuple[int, int, int]] = []
        self.spans: list[Span] = []
        for event, kind, place in self._tasks():
            self._do(event, kind, place)

    @property
    def nanoseconds(self) -> int:
        """Return how long the step takes: until its last event and all copies out are over."""
        return max([self.starts[-1] + self.delay, *self.out_free.values()])

    def _tasks(self) -> list[tuple[int, int, int]]:
        """Return (event, kind of task, index of the move) in the order in which they happen."""
        found, events, count = list[int](), len(self.timeline.events), max(len(self.moves), 1)
        # One number a task sorts as (event, kind, place) does, and quicker.
        leave, free, fetch, need, remake = (kind * count for kind in (_LEAVE, _FREE, _FETCH, _NEED, _REMAKE))
        step = _KINDS * count
        for place, move in enumerate(self.moves):
            found.append(move.after * step + leave + place)
            if isinstance(move, Recompute):
                found.append(move.before * step + remake + place)
            else:
                found.append(move.prefetch * step + fetch + place)
                found.append(move.before * step + need + place)
                if move.freed_by < events:
                    found.append(move.freed_by * step + free + place)
        keys = np.sort(np.array(found, dtype=np.int64))
        parts = keys // step, keys % step // count, keys % count
        return list(zip(*(part.tolist() for part in parts), strict=True))

    def _do(self, event: int, kind: int, place: int) -> None:
        """Do one task."""
        if kind == _FREE:
            # A gap that wraps may ask for this before its copy out of this very step: there is none to wait for.
            self._wait(event, self.starts[event], self.out_ends[place])
        elif kind == _FETCH:
            self._fetch(event, place)
        elif kind == _NEED:
            self._wait(event, self.starts[event], self.in_ends[place])
        elif kind == _REMAKE:
            self._remake(event, place)
        else:
            self._leave(event, place)

    def _wait(self, event: int, planned: int, until: int) -> None:
        """Delay the start of the event, planned for then, until that time."""
        late = until - planned - self.delay
        if late > 0:
            self.delay += late
            self.waiting += late
            self.delayed[event] += late

    def _leave(self, event: int, place: int) -> None:
        move, size, planned = self.moves[place], self.sizes[place], self.starts[event + 1]
        if isinstance(move, Recompute):
            self.changes.append((planned + self.delay, 8 * event + END, -size))
            return
        tier, flying, held = self.tiers[move.tier], self.flying[move.tier], self.flying_bytes[move.tier]
        while flying and (flying[0][0] <= planned + self.delay or held + size > tier.bytes_in_flight):
            end, freed = flying.popleft()
            held -= freed
            self._wait(event + 1, planned, end)
        now = planned + self.delay
        start = max(now, self.out_free[move.tier])
        end = start + tier.out_nanoseconds(size)
        self.out_free[move.tier] = self.out_ends[place] = end
        flying.append((end, size))
        self.flying_bytes[move.tier] = held + size
        self.changes.append((end, FIRST, -size))
        self.spans.append((move.buffer, move.tier, "out", size, now, start, end))

    def _fetch(self, event: int, place: int) -> None:
        move, size, now = self.moves[place], self.sizes[place], self.starts[event] + self.delay
        tier = move.tier if isinstance(move, Swap) else ""
        # A gap that wraps begins the step in its tier: its copy out comes later.
        start = max(now, self.in_free[tier], 0 if move.before <= move.after else self.out_ends[place])
        end = start + self.tiers[tier].in_nanoseconds(size)
        self.in_free[tier] = self.in_ends[place] = end
        self.changes.append((start, 8 * event + RETURN, size))
        self.spans.append((move.buffer, tier, "in", size, now, start, end))

    def _remake(self, event: int, place: int) -> None:
        move, size, now = self.moves[place], self.sizes[place], self.starts[event] + self.delay
        recipe = self.timeline.recipe_of[move.buffer, move.before]
        duration = round(recipe.seconds * NANOSECONDS)
        self.changes.append((now, 8 * event + REMAKE, size + recipe.scratch_bytes))
        self.changes.append((now + duration, 8 * event + REMAKE, -recipe.scratch_bytes))
        self.remaking += duration
        self.delay += duration
        self.delayed[event] += duration

    def finish(self) -> Simulation:
        """Return the simulation: the curve of memory from all changes in order."""
        delays = np.cumsum(np.array(self.delayed, dtype=np.int64))
        starts = self.timeline.starts[:-1] + delays[:-1]
        base = resident_at_start(self.timeline, self.moves)
        peak, event_bytes = self._curve(starts, base)
        computed = self.starts[-1] + self.delay
        total = self.nanoseconds
        return Simulation(
            peak_bytes=peak,
            bound_bytes=int(bound_curve(self.timeline, self.moves).max(initial=base)),
            base_bytes=self.timeline.base_bytes,
            step_seconds=total / NANOSECONDS,
            waiting_seconds=(self.waiting + total - computed) / NANOSECONDS,
            recompute_seconds=self.remaking / NANOSECONDS,
            event_starts=tuple((starts / NANOSECONDS).tolist()),
            event_bytes=event_bytes,
            spans=tuple(self.spans),
        )

    def _curve(self, starts: Int64, base: int) -> tuple[int, tuple[int, ...]]:
        count = len(starts)
        if not count:
            return base, ()
        born, freed = self.timeline.born_bytes, -self.timeline.released_bytes
        events = np.arange(count)
        changes = np.array(self.changes, dtype=np.int64).reshape(-1, 3)
        # The first entries change nothing: they mark where each event begins, before what returns at that instant.
        times = np.concatenate((starts, starts, starts + self.timeline.nanoseconds, changes[:, 0]))
        places = np.concatenate((8 * events + MARK, 8 * events + START, 8 * events + END, changes[:, 1]))
        order = np.lexsort((places, times))
        live = base + np.cumsum(np.concatenate((np.zeros_like(born), born, freed, changes[:, 2]))[order])
        begins = np.empty(len(order), dtype=np.int64)
        begins[order] = np.arange(len(order))
        return int(live.max(initial=base)), tuple(np.maximum.reduceat(live, begins[:count]).tolist())
