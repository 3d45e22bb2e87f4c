"""The greedy choice of what to move: event by event, the best idle buffer when memory runs out."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import islice

import numpy as np

from optimizers.swap.candidates import Candidates
from optimizers.swap.move_table import (
    AFTER,
    BEFORE,
    BUFFER,
    MoveTable,
    away_spans,
    remaking_nanoseconds,
    scratch_of,
)
from optimizers.swap.moves import is_between
from optimizers.swap.simulate import bound_of
from optimizers.swap.timeline import NANOSECONDS, Int64, Timeline


def choose(candidates: Candidates, budget_bytes: int) -> MoveTable | None:
    """Return moves that keep each event within the budget if copies are waited for; None where the sweep finds none.

    A swap gives its memory back during the whole gap here, and names no tier; schedule.py gives it one and more time.
    Without recomputations the sweep finds a choice whenever there is one: it may take every idle buffer.
    """
    chosen = _Sweep(candidates).run(budget_bytes)
    return None if chosen is None else candidates.table(chosen)


class Agreement:
    """The moves so far: nothing may be made again from a buffer that is away then."""

    def __init__(self, timeline: Timeline) -> None:
        self.recipes, self.born = timeline.recipe_of, timeline.born.tolist()
        # Buffer -> the recomputations that need it, as (event, what sorts those before one event).
        self.needed: dict[int, list[tuple[int, tuple[int, int]]]] = {}
        # Buffer -> its moves, as (after, before, whether it is made again).
        self.away: dict[int, list[tuple[int, int, bool]]] = {}

    def accepts(self, buffer: int, after: int, before: int, remade: bool) -> bool:
        """Return whether the move agrees with those so far; if so, it is one of them from now on."""
        move = (after, before, remade)
        for event, key in self.needed.get(buffer, ()):
            if self._is_away(buffer, move, event, key):
                return False
        if remade:
            inputs, key = self.recipes[buffer, before].inputs, (self.born[buffer], buffer)
            if self._are_away(inputs, before, key):
                return False
            for index in inputs:
                self.needed.setdefault(index, []).append((before, key))
        self.away.setdefault(buffer, []).append(move)
        return True

    def _are_away(self, inputs: Iterable[int], before: int, key: tuple[int, int]) -> bool:
        for index in inputs:
            for move in self.away.get(index, ()):
                if self._is_away(index, move, before, key):
                    return True
        return False

    def _is_away(self, source: int, move: tuple[int, int, bool], event: int, key: tuple[int, int]) -> bool:
        """Return whether the move keeps its buffer away from what is made again before the event, as moves.is_away."""
        after, before, remade = move
        if remade and before == event:
            return (self.born[source], source) >= key
        return is_between(after, before, event)


class _Sweep:
    """Gaps that are open, best first, and the change of memory by what was chosen so far."""

    def __init__(self, candidates: Candidates) -> None:
        self.timeline, self.candidates = candidates.timeline, candidates
        self.events = len(self.timeline.events)
        self.changes = [0] * (self.events + 2)
        # Swaps agree with one another, whatever they are.
        self.agreement = Agreement(self.timeline) if candidates.remakes else None
        rows = self.timeline.gap_rows[candidates.order]
        self.buffers, self.afters, self.befores = rows.T.tolist()
        self.sizes: list[int] = self.timeline.gap_sizes[candidates.order].tolist()
        self.remade: list[bool] = candidates.remade[candidates.order].tolist()
        # A gap that wraps opens twice, the first time with the step.
        wraps = np.flatnonzero(rows[:, 2] <= rows[:, 1])
        opening = np.concatenate((np.zeros(len(wraps), dtype=np.int64), rows[:, 1] + 1))
        ranks = np.concatenate((wraps, np.arange(len(rows))))
        order = np.argsort(opening, kind="stable")
        self.opening: list[int] = opening[order].tolist()
        self.ranks: list[int] = ranks[order].tolist()
        self.opened = 0
        self.open: list[int] = []
        self.taken = bytearray(len(rows))

    def run(self, budget_bytes: int) -> list[int] | None:
        """Return the gaps that the sweep takes; None where memory is over the budget and nothing is idle."""
        excess, chosen = self.timeline.live_bytes - budget_bytes, list[int]()
        over = np.flatnonzero(excess > 0)
        if not len(over):
            return []
        # What is recomputed needs scratch, later: from the first event over the budget on, each is looked at.
        first, change, sizes = int(over[0]), 0, self.sizes
        # The changes are read as they stand when their event comes.
        coming = islice(self.changes, first, self.events)
        for event, (beyond, more) in enumerate(zip(excess[first:].tolist(), coming, strict=True), first):
            change += more
            while beyond + change > 0:
                rank = self._best(event)
                if rank < 0:
                    return None
                chosen.append(rank)
                change -= sizes[rank]
                self._apply(rank, event)
        found: list[int] = self.candidates.order[chosen].tolist()
        return found

    def _best(self, event: int) -> int:
        """Return the best candidate that is idle during the event, taken now; -1 where there is none."""
        waiting, opening, opened, agreement = self.open, self.opening, self.opened, self.agreement
        while opened < len(opening) and opening[opened] <= event:
            heappush(waiting, self.ranks[opened])
            opened += 1
        self.opened = opened
        while waiting:
            rank = heappop(waiting)
            after, before = self.afters[rank], self.befores[rank]
            # As moves.is_between, which this is asked too often to call.
            idle = after < event < before if after < before else event > after or event < before
            if not idle or self.taken[rank]:
                continue
            if agreement is None or agreement.accepts(self.buffers[rank], after, before, self.remade[rank]):
                self.taken[rank] = 1
                return rank
        return -1

    def _apply(self, rank: int, event: int) -> None:
        """Note when the memory is taken again, and what making it again takes beside it."""
        after, before, size, changes = self.afters[rank], self.befores[rank], self.sizes[rank], self.changes
        if before <= after:
            if event > after:
                return
            changes[after + 1] -= size
        changes[before] += size
        if self.remade[rank]:
            scratch = self.timeline.recipe_of[self.buffers[rank], before].scratch_bytes
            changes[before] += scratch
            changes[before + 1] -= scratch


def without_needless(timeline: Timeline, moves: MoveTable, budget_bytes: int) -> tuple[MoveTable, Int64]:
    """Return the moves without those that the budget does not need, and the bytes that each event has left.

    The dearest per byte is tried first, then the smallest size x gap. Where an event has less than 0 left the moves
    do not keep the budget.
    """
    room = budget_bytes - bound_of(timeline, moves)
    sizes, scratch = timeline.buffer_bytes[moves.rows[:, BUFFER]], scratch_of(timeline, moves)
    which, begins, ends = away_spans(moves, len(timeline.events))
    # Room only shrinks, but for the scratch of what is not made again after all: few need more than this look.
    spare = _Lowest(room + int(scratch.sum())).of(begins, ends) >= sizes[which]
    needed = np.zeros(len(moves), dtype=np.bool_)
    needed[which[~spare]] = True
    spans: dict[int, list[tuple[int, int]]] = {}
    for place, begin, end in zip(which.tolist(), begins.tolist(), ends.tolist(), strict=True):
        if not needed[place]:
            spans.setdefault(place, []).append((begin, end))
    order = _by_worth(timeline, moves, sizes)
    for place in order[~needed[order]].tolist():
        size = int(sizes[place])
        if any(int(room[begin:end].min()) < size for begin, end in spans.get(place, ())):
            needed[place] = True
            continue
        for begin, end in spans.get(place, ()):
            room[begin:end] -= size
        if scratch[place]:
            room[moves.rows[place, BEFORE]] += scratch[place]
    return moves.taken(order[needed[order]]), room


class _Lowest:
    """The lowest of any range of values, without going through it."""

    def __init__(self, values: Int64) -> None:
        # levels[k]: the lowest of 2^k values from each place on.
        self.levels, width = [values], 1
        while 2 * width <= len(values):
            last = self.levels[-1]
            self.levels.append(np.minimum(last[:-width], last[width:]))
            width *= 2

    def of(self, begins: Int64, ends: Int64) -> Int64:
        """Return the lowest value of each range; none is empty."""
        found = np.empty(len(begins), dtype=np.int64)
        _, exponents = np.frexp(ends - begins)
        exponents -= 1
        for level in np.unique(exponents).tolist():
            some = exponents == level
            values = self.levels[level]
            found[some] = np.minimum(values[begins[some]], values[ends[some] - (1 << level)])
        return found


def _by_worth(timeline: Timeline, moves: MoveTable, sizes: Int64) -> Int64:
    """Return the moves' places, the dearest per byte first, then the smallest size x gap, then the first buffer."""
    rows = moves.rows
    length = timeline.starts[rows[:, BEFORE]] - timeline.starts[rows[:, AFTER] + 1]
    length += np.where(moves.wraps, timeline.starts[-1], 0)
    found: Int64 = np.lexsort(
        (rows[:, BUFFER], sizes * (length / NANOSECONDS), -remaking_nanoseconds(timeline, moves) / sizes)
    )
    return found
