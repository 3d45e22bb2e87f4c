"""Which candidates a budget needs: one sweep over the events that takes the best idle buffer when memory runs out."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import numpy as np

from optimizers.swap.candidates import Candidates
from optimizers.swap.moves import Move, Recompute, is_away
from optimizers.swap.simulate import away_events, bound_curve
from optimizers.swap.timeline import NANOSECONDS, Int64, Timeline


def choose(candidates: Candidates, budget_bytes: int) -> list[Move] | None:
    """Return moves that keep each event within the budget if copies are waited for; None where the sweep finds none.

    A swap gives its memory back during the whole gap here, and names no tier; schedule.py gives it one and more time.
    Without recomputations the sweep finds a choice whenever there is one: it may take every idle buffer.
    """
    return _Sweep(candidates).run(budget_bytes)


class Agreement:
    """The moves so far: nothing may be made again from a buffer that is away then."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.needed: dict[int, list[Recompute]] = {}
        self.away: dict[int, list[Move]] = {}

    def accepts(self, move: Move) -> bool:
        """Return whether the move agrees with those so far; if so, it is one of them from now on."""
        if any(is_away(self.timeline, move, remade) for remade in self.needed.get(move.buffer, ())):
            return False
        if isinstance(move, Recompute):
            inputs = self.timeline.recipe_of[move.buffer, move.before].inputs
            sources = [other for index in inputs for other in self.away.get(index, ())]
            if any(is_away(self.timeline, other, move) for other in sources):
                return False
            for index in inputs:
                self.needed.setdefault(index, []).append(move)
        self.away.setdefault(move.buffer, []).append(move)
        return True


class _Sweep:
    """Gaps that are open, best first, and the change of memory by what was chosen so far."""

    def __init__(self, candidates: Candidates) -> None:
        self.timeline, self.candidates = candidates.timeline, candidates
        self.chosen: list[Move] = []
        self.change = 0
        events = len(self.timeline.events)
        self.changes = [0] * (events + 2)
        self.opening: list[list[int]] = [[] for _ in range(events + 1)]
        self.open: list[int] = []
        # Swaps agree with one another, whatever they are.
        self.agreement = Agreement(self.timeline) if candidates.recipes else None
        rows = self.timeline.gap_rows[list(candidates.order)]
        self.ends: list[tuple[int, int]] = list(zip(rows[:, 1].tolist(), rows[:, 2].tolist(), strict=True))
        self.taken = bytearray(len(self.ends))
        for rank, (after, before) in enumerate(self.ends):
            self.opening[after + 1].append(rank)
            if before <= after:
                self.opening[0].append(rank)

    def run(self, budget_bytes: int) -> list[Move] | None:
        """Return the moves that the sweep takes; None where memory is over the budget and nothing is idle."""
        over = np.flatnonzero(self.timeline.live_bytes > budget_bytes)
        if not len(over):
            return self.chosen
        # What is recomputed needs scratch, later: from the first event over the budget on, each is looked at.
        first, push, waiting = int(over[0]), heapq.heappush, self.open
        for event, live in enumerate(self.timeline.live_bytes.tolist()):
            self.change += self.changes[event]
            for rank in self.opening[event]:
                push(waiting, rank)
            while live + self.change > budget_bytes and event >= first:
                if not self._take_best(event):
                    return None
        return self.chosen

    def _take_best(self, event: int) -> bool:
        """Choose the best candidate that is idle during the event; return False where there is none."""
        while self.open:
            rank = heapq.heappop(self.open)
            after, before = self.ends[rank]
            idle = after < event < before if after < before else event > after or event < before
            if not idle or self.taken[rank]:
                continue
            move = self.candidates.move(self.candidates.order[rank])
            if self.agreement is None or self.agreement.accepts(move):
                self.taken[rank] = 1
                self.chosen.append(move)
                self._apply(move, event)
                return True
        return False

    def _apply(self, move: Move, event: int) -> None:
        size, wraps = self.timeline.sizes[move.buffer], move.before <= move.after
        self.change -= size
        if wraps and event > move.after:
            return
        self.changes[move.before] += size
        if wraps:
            self.changes[move.after + 1] -= size
        if isinstance(move, Recompute):
            scratch = self.timeline.recipe_of[move.buffer, move.before].scratch_bytes
            self.changes[move.before] += scratch
            self.changes[move.before + 1] -= scratch


def without_needless(timeline: Timeline, moves: Sequence[Move], budget_bytes: int) -> tuple[list[Move], Int64]:
    """Return the moves without those that the budget does not need, and the bytes that each event has left.

    The dearest per byte is tried first, then the smallest size x gap. Where an event has less than 0 left the moves
    do not keep the budget.
    """
    room = budget_bytes - bound_curve(timeline, moves)
    scratch = [timeline.recipe_of[move.buffer, move.before].scratch_bytes for move in moves
               if isinstance(move, Recompute)]  # fmt: skip
    count, spare, kept = len(timeline.events), sum(scratch), list[Move]()
    # Room only shrinks, but for the scratch of what is not made again after all: few need more than this look.
    ends = (room + spare).tolist()
    for move in sorted(moves, key=_worth_in(timeline)):
        size, spans = timeline.sizes[move.buffer], away_events(move, count)
        if any(begin < end and (ends[begin] < size or ends[end - 1] < size or _is_short(room, begin, end, size))
               for begin, end in spans):  # fmt: skip
            kept.append(move)
            continue
        for begin, end in spans:
            room[begin:end] -= size
        if isinstance(move, Recompute):
            room[move.before] += timeline.recipe_of[move.buffer, move.before].scratch_bytes
    return kept, room


def _is_short(room: Int64, begin: int, end: int, size: int) -> bool:
    """Return whether an event in the range has less left than `size`; most show it at an end, which is quick to see."""
    return begin < end and bool(room[begin] < size or room[end - 1] < size or room[begin:end].min() < size)


def _worth_in(timeline: Timeline) -> Callable[[Move], tuple[float, float, int]]:
    sizes, starts, whole = timeline.sizes, timeline.starts.tolist(), int(timeline.starts[-1])
    recipes = timeline.recipe_of

    def worth(move: Move) -> tuple[float, float, int]:
        size, buffer = sizes[move.buffer], move.buffer
        length = starts[move.before] - starts[move.after + 1] + (whole if move.before <= move.after else 0)
        remade = recipes[buffer, move.before].seconds if isinstance(move, Recompute) else 0.0
        return -remade / size, size * (length / NANOSECONDS), buffer

    return worth
