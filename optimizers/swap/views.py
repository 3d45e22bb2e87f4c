"""What a page shows of a fitted step, in plain values: memory over time, the moves with their gaps, the copy lanes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analyzer.errors import RecordError
from analyzer.record import from_plain, to_plain
from optimizers.swap.moves import Move, Recompute, Tier
from optimizers.swap.simulate import Copy, away_events
from optimizers.swap.timeline import Buffer, Event, Int64, Recipe, Timeline

if TYPE_CHECKING:
    from optimizers.swap.fit import Fitted


@dataclass(frozen=True, slots=True)
class MoveView:
    """One move: seconds since the step began, from the last use to the next one, without waiting."""

    buffer: int
    category: str
    how: str
    bytes: int
    leaves_seconds: float
    returns_seconds: float
    gap_seconds: float


@dataclass(frozen=True, slots=True)
class Course:
    """Bytes over a step's events. total: highest of each event; parts: category -> bytes of each event."""

    starts_seconds: tuple[float, ...]
    total_bytes: tuple[int, ...]
    parts: dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class SwapView:
    """All that a page needs: what was before, what the simulator predicts, what was measured; and to plan anew.

    measured_bytes: highest live bytes of each event of the predicted course, measured; empty where the marks differ.
    timeline(), tiers, allow: what `plan(view.timeline(), budget, view.tiers, view.allow)` takes for another budget.
    """

    budget_bytes: int
    before: Course
    predicted: Course
    measured_bytes: tuple[int, ...]
    moves: tuple[MoveView, ...]
    lanes: tuple[CopyView, ...]
    tiers: tuple[Tier, ...]
    allow: tuple[str, ...]
    events: tuple[Event, ...]
    buffers: tuple[Buffer, ...]
    recipes: tuple[Recipe, ...]
    constant_bytes: int

    def timeline(self) -> Timeline:
        """Return the step, to plan for another budget."""
        return Timeline(self.events, self.buffers, self.constant_bytes, self.recipes)

    def encode(self) -> bytes:
        """Return the view as JSON."""
        return json.dumps(to_plain(self), separators=(",", ":"), allow_nan=False).encode()


@dataclass(frozen=True, slots=True)
class CopyView:
    """One copy on a lane; direction "out" or "in". Simulated."""

    buffer: int
    tier: str
    direction: str
    bytes: int
    start_seconds: float
    end_seconds: float


def decode_view(content: bytes) -> SwapView:
    """Return the view that `encode` wrote. Raises RecordError where it is none."""
    try:
        return from_plain(SwapView, json.loads(content))
    except ValueError as error:
        raise RecordError(f"not a saved view of a swap: {error}") from error


def view_of(fitted: Fitted) -> SwapView:
    """Return what a page shows of the fit."""
    timeline, found = fitted.traced.timeline, fitted.plan
    return SwapView(
        budget_bytes=fitted.report.budget_bytes,
        before=course(timeline, (), tuple(timeline.live_bytes.tolist()), (timeline.starts[:-1] / 1e9).tolist()),
        predicted=course(timeline, found.moves, found.simulation.event_bytes, found.simulation.event_starts),
        measured_bytes=fitted.measured_bytes,
        moves=tuple(_move(timeline, move) for move in found.moves),
        lanes=tuple(_lane(copy) for copy in found.simulation.copies),
        tiers=fitted.tiers,
        allow=fitted.allow,
        events=timeline.events,
        buffers=timeline.buffers,
        recipes=timeline.recipes,
        constant_bytes=timeline.constant_bytes,
    )


def course(
    timeline: Timeline, moves: Sequence[Move], total_bytes: Sequence[int], starts_seconds: Sequence[float]
) -> Course:
    """Return the course with the bytes of each category that are surely live; "other": what is in no buffer."""
    count = len(timeline.events)
    change: dict[str, Int64] = defaultdict(lambda: np.zeros(count + 1, dtype=np.int64))
    for buffer in timeline.buffers:
        line = change[buffer.category]
        line[max(buffer.born, 0)] += buffer.bytes
        if buffer.released is not None:
            line[buffer.released + 1] -= buffer.bytes
    for move in moves:
        buffer = timeline.buffers[move.buffer]
        for begin, end in away_events(move, count):
            change[buffer.category][begin] -= buffer.bytes
            change[buffer.category][end] += buffer.bytes
    parts = {category: tuple(np.cumsum(line)[:-1].tolist()) for category, line in sorted(change.items())}
    parts["other"] = (timeline.constant_bytes,) * count
    return Course(tuple(starts_seconds), tuple(total_bytes), parts)


def _move(timeline: Timeline, move: Move) -> MoveView:
    buffer = timeline.buffers[move.buffer]
    how = "recompute" if isinstance(move, Recompute) else f"swap to {move.tier}"
    leaves, returns = timeline.starts[move.after + 1] / 1e9, timeline.starts[move.before] / 1e9
    seconds = timeline.gap_seconds(move.gap)
    return MoveView(move.buffer, buffer.category, how, buffer.bytes, float(leaves), float(returns), seconds)


def _lane(copy: Copy) -> CopyView:
    return CopyView(copy.buffer, copy.tier, copy.direction, copy.bytes, copy.start_seconds, copy.end_seconds)
