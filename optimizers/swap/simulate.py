"""The step with its moves, event by event, on an exact clock of nanoseconds: memory, copies and waiting.

What happens, in this order:

1. Before event k: wait until the copies out that are `freed_by` k are done; issue the copies in with `prefetch` k;
   wait until the copies in that are needed `before` k are done; then make again what is recomputed before k.
2. Event k starts and allocates what is born in it. It runs. At its end it frees what is released in it.
3. Then the copies out `after` k are issued. While more than the tier's bytes_in_flight would wait or be on their way,
   the compute waits (a single copy larger than that goes alone).

To issue a copy takes the tier's issue_seconds of compute. Each tier has one lane out and one lane in; a lane does one
copy at a time, in the order of issue. A buffer that leaves holds its memory until its copy is done; one that returns
holds it from the start of its copy, which comes after its copy out. What is remade holds its memory, and its scratch,
from the start of the recomputation. The step is over when its last event and all copies out are. A gap that wraps
starts the step in its tier. At one instant memory is freed before it is allocated, but a return may count before the
release of the same instant.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from optimizers.swap.move_table import (
    AFTER,
    BEFORE,
    BUFFER,
    FREED_BY,
    PREFETCH,
    REMADE,
    TIER,
    MoveTable,
    away_spans,
    copy_nanoseconds,
    remaking_nanoseconds,
    scratch_of,
    table_of,
)
from optimizers.swap.moves import Move, Recompute, Tier, check_moves
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
    return SimulatedStep(timeline, table_of(moves, tiers), tiers).finish()


def bound_curve(timeline: Timeline, moves: Sequence[Move], tiers: Sequence[Tier]) -> Int64:
    """Return for each event the bytes that may be live from its start to the next one's, at any bandwidth."""
    return bound_of(timeline, table_of(moves, tiers))


def bound_of(timeline: Timeline, moves: MoveTable) -> Int64:
    """Return what bound_curve does, of a table."""
    count, scratch = len(timeline.events), scratch_of(timeline, moves)
    sizes = timeline.buffer_bytes[moves.rows[:, BUFFER]]
    which, begins, ends = away_spans(moves, count)
    change = np.zeros(count + 2, dtype=np.int64)
    np.add.at(change, begins, -sizes[which])
    np.add.at(change, ends, sizes[which])
    places = np.flatnonzero(scratch)
    events = moves.rows[places, BEFORE]
    np.add.at(change, events, scratch[places])
    np.add.at(change, events + 1, -scratch[places])
    found: Int64 = timeline.live_bytes + np.cumsum(change)[:count]
    return found


def resident_at_start(timeline: Timeline, moves: MoveTable) -> int:
    """Return the bytes live before the first event: what a gap that wraps keeps away is not."""
    return timeline.base_bytes - int(timeline.buffer_bytes[moves.rows[moves.wraps, BUFFER]].sum())


def highest_bound(timeline: Timeline, moves: MoveTable) -> int:
    """Return what the step's peak stays under at any bandwidth."""
    return int(bound_of(timeline, moves).max(initial=resident_at_start(timeline, moves)))


def away_events(move: Move, count: int) -> tuple[tuple[int, int], ...]:
    """Return the ranges of events (end excluded) during which the buffer surely takes no memory."""
    if isinstance(move, Recompute):
        return ((move.after + 1, move.before),)
    if move.before <= move.after:
        return ((0, move.prefetch), (move.freed_by, count))
    return ((move.freed_by, move.prefetch),)


class SimulatedStep:
    """The clock, the lanes and the changes of memory. A change is (time, place in the order, bytes)."""

    def __init__(self, timeline: Timeline, moves: MoveTable, tiers: Sequence[Tier]) -> None:
        self.timeline, self.tiers = timeline, tuple(tiers)
        # Of several at one event: the one that is needed first, then the first born; so the order is one.
        rows = moves.rows
        order = np.lexsort((rows[:, BUFFER], timeline.born[rows[:, BUFFER]], rows[:, BEFORE]))
        self.moves = moves.taken(order)
        self.starts: list[int] = timeline.starts.tolist()
        self.delay = self.waiting = self.remaking = 0
        self.delayed = [0] * (len(timeline.events) + 1)
        self.out_free, self.in_free = [0] * len(tiers), [0] * len(tiers)
        self.issuing = [round(tier.issue_seconds * NANOSECONDS) for tier in tiers]
        self.flying: list[deque[tuple[int, int]]] = [deque() for _ in tiers]
        self.flying_bytes = [0] * len(tiers)
        self.changes: list[int] = []
        self.spans: list[int] = []
        self._run()

    @property
    def nanoseconds(self) -> int:
        """Return how long the step takes: until its last event and all copies out are over."""
        return max([self.starts[-1] + self.delay, *self.out_free])

    def _run(self) -> None:
        rows = self.moves.rows
        sizes = self.timeline.buffer_bytes[rows[:, BUFFER]]
        self.sizes: list[int] = sizes.tolist()
        self.out_times: list[int] = copy_nanoseconds(self.tiers, rows[:, TIER], sizes, "out").tolist()
        self.in_times: list[int] = copy_nanoseconds(self.tiers, rows[:, TIER], sizes, "in").tolist()
        self.remake_times: list[int] = remaking_nanoseconds(self.timeline, self.moves).tolist()
        self.scratch: list[int] = scratch_of(self.timeline, self.moves).tolist()
        self.buffers: list[int] = rows[:, BUFFER].tolist()
        self.places: list[int] = rows[:, TIER].tolist()
        self.wraps: list[bool] = self.moves.wraps.tolist()
        self.out_ends, self.in_ends = [0] * len(rows), [0] * len(rows)
        starts = self.starts
        for event, kind, place in zip(*self._tasks(), strict=True):
            if kind in (_FREE, _NEED):
                # A gap that wraps may ask for this before its copy out of this very step: there is none to wait for.
                until = self.out_ends[place] if kind == _FREE else self.in_ends[place]
                if until > starts[event] + self.delay:
                    self._wait(event, until - starts[event] - self.delay)
            elif kind == _FETCH:
                self._fetch(event, place)
            elif kind == _REMAKE:
                self._remake(event, place)
            elif self.places[place] == REMADE:
                self.changes += (starts[event + 1] + self.delay, 8 * event + END, -self.sizes[place])
            else:
                self._leave(event, place)

    def _tasks(self) -> tuple[list[int], list[int], list[int]]:
        """Return event, kind of task and index of the move in the order in which they happen."""
        rows, events, count = self.moves.rows, len(self.timeline.events), max(len(self.moves), 1)
        places, remade = np.arange(len(rows)), self.moves.remade
        swapped = places[~remade]
        freed = swapped[rows[swapped, FREED_BY] < events]
        # One number a task sorts as (event, kind, place) does, and quicker.
        keys = [
            (rows[some, column] * _KINDS + kind) * count + some
            for some, column, kind in (
                (places, AFTER, _LEAVE), (places[remade], BEFORE, _REMAKE), (swapped, PREFETCH, _FETCH),
                (swapped, BEFORE, _NEED), (freed, FREED_BY, _FREE),
            )
        ]  # fmt: skip
        ordered = np.sort(np.concatenate(keys))
        return (ordered // (_KINDS * count)).tolist(), (ordered // count % _KINDS).tolist(), (ordered % count).tolist()

    def _wait(self, event: int, late: int) -> None:
        """Delay the start of the event."""
        self.delay += late
        self.waiting += late
        self.delayed[event] += late

    def _leave(self, event: int, place: int) -> None:
        size, planned, tier = self.sizes[place], self.starts[event + 1], self.places[place]
        flying, held, most = self.flying[tier], self.flying_bytes[tier], self.tiers[tier].bytes_in_flight
        while flying and (flying[0][0] <= planned + self.delay or held + size > most):
            end, freed = flying.popleft()
            held -= freed
            if end > planned + self.delay:
                self._wait(event + 1, end - planned - self.delay)
        now = planned + self.delay
        start = max(now, self.out_free[tier])
        end = start + self.out_times[place]
        self.out_free[tier] = self.out_ends[place] = end
        flying.append((end, size))
        self.flying_bytes[tier] = held + size
        self.changes += (end, FIRST, -size)
        self.spans += (self.buffers[place], tier, 1, size, now, start, end)
        if self.issuing[tier]:
            self._wait(event + 1, self.issuing[tier])

    def _fetch(self, event: int, place: int) -> None:
        size, now, tier = self.sizes[place], self.starts[event] + self.delay, self.places[place]
        # A gap that wraps begins the step in its tier: its copy out comes later.
        start = max(now, self.in_free[tier], 0 if self.wraps[place] else self.out_ends[place])
        end = start + self.in_times[place]
        self.in_free[tier] = self.in_ends[place] = end
        self.changes += (start, 8 * event + RETURN, size)
        self.spans += (self.buffers[place], tier, 0, size, now, start, end)
        if self.issuing[tier]:
            self._wait(event, self.issuing[tier])

    def _remake(self, event: int, place: int) -> None:
        now, scratch, duration = self.starts[event] + self.delay, self.scratch[place], self.remake_times[place]
        self.changes += (now, 8 * event + REMAKE, self.sizes[place] + scratch)
        self.changes += (now + duration, 8 * event + REMAKE, -scratch)
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
            bound_bytes=highest_bound(self.timeline, self.moves),
            base_bytes=self.timeline.base_bytes,
            step_seconds=total / NANOSECONDS,
            waiting_seconds=(self.waiting + total - computed) / NANOSECONDS,
            recompute_seconds=self.remaking / NANOSECONDS,
            event_starts=tuple((starts / NANOSECONDS).tolist()),
            event_bytes=event_bytes,
            spans=self._spans(),
        )

    def _spans(self) -> tuple[Span, ...]:
        names, flat = [tier.name for tier in self.tiers], iter(self.spans)
        return tuple(
            (buffer, names[tier], "out" if out else "in", size, issued, start, end)
            for buffer, tier, out, size, issued, start, end in zip(*[flat] * 7, strict=True)
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
