"""The timeline of a traced step: what the engine can move, and all else as memory that stays."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from optimizers.swap.recipes import Recipes, find_recipes
from optimizers.swap.run_timeline import LEAST_BYTES
from optimizers.swap.timeline import Buffer, Event, Int64, Timeline
from optimizers.swap.trace import StepTrace, TracedStorage


@dataclass(frozen=True)
class TracedTimeline:
    """A timeline and what its buffers are: storages of the trace (number) or tensors of the optimizer's state (place).

    storages: buffer -> number of the storage; state: buffer -> place in StepTrace.state.
    recipe_ops: (buffer, event) of a recipe -> ops of the forward that it repeats, in order.
    reserve_bytes: what the timeline's constant part has for moving itself, at most.
    """

    timeline: Timeline
    storages: dict[int, int]
    state: dict[int, int]
    recipe_ops: dict[tuple[int, int], tuple[int, ...]]
    reserve_bytes: int = 0


def build_timeline(
    trace: StepTrace,
    reserve_bytes: int = 0,
    least_bytes: int = LEAST_BYTES,
    copy_seconds_per_byte: float = 0.0,
    recompute: bool = True,
    op_seconds: float = 0.0,
) -> TracedTimeline:
    """Return the timeline of the trace.

    Event i ends at mark i. A buffer can be moved from the mark at which only autograd holds it to its first use in the
    backward. What cannot be moved is one curve: constant bytes, and what each event takes beyond them.
    reserve_bytes: what swapping itself takes. least_bytes: smaller tensors stay.
    copy_seconds_per_byte: what a copy out and back takes; something that takes longer to make again is not made again.
    recompute: with recipes; their inputs are needed as early as they are, which costs swaps alone part of their gaps.
    op_seconds: what repeating an op takes beside the op itself.
    """
    events = tuple(
        Event(index, "update" if trace.updates and index == trace.updates[1] else f"mark {index}", seconds)
        for index, seconds in enumerate(trace.event_seconds)
    )
    spans = _spans(trace)
    movable = [
        storage for storage in trace.storages
        if storage.number in spans and storage.bytes >= least_bytes and _gap_marks(storage) is not None
    ]  # fmt: skip
    buffers = [_activation(index, storage, spans[storage.number]) for index, storage in enumerate(movable)]
    state = _state_buffers(trace, len(buffers), least_bytes)
    held = sum(buffer.bytes for buffer in state)
    curve = _curve(trace, {address_span for storage in movable for address_span in [_key(storage, spans)]}) - held
    constant = int(curve.min(initial=trace.before_bytes))
    extra = [
        Buffer(0, -1, int(size) - constant, "temporary", event, (event,), event, 1, "temporary")
        for event, size in enumerate(curve)
        if size > constant
    ]
    everything = [*buffers, *state, *extra]
    timeline = Timeline(
        events, tuple(replace(buffer, index=index) for index, buffer in enumerate(everything)), constant + reserve_bytes
    )
    numbers = {index: storage.number for index, storage in enumerate(movable)}
    found = (
        find_recipes(trace, timeline, numbers, copy_seconds_per_byte, op_seconds)
        if recompute
        else Recipes(timeline.buffers, (), {})
    )
    return TracedTimeline(
        replace(timeline, buffers=found.buffers, recipes=found.recipes).check(),
        numbers,
        {len(buffers) + place: buffer.storage for place, buffer in enumerate(state)},
        found.ops,
        reserve_bytes,
    )


def _gap_marks(storage: TracedStorage) -> tuple[int, int] | None:
    """Return the marks between which the storage lies idle, or None."""
    if storage.left_alone or storage.idle is None or not storage.unpacks:
        return None
    first = storage.unpacks[0]
    return (storage.idle, first) if first > storage.idle else None


def _spans(trace: StepTrace) -> dict[int, tuple[int, int, int]]:
    """Return, by storage, the place of its allocation among all, and the events of its allocation and its release."""
    by_address: dict[int, list[int]] = defaultdict(list)
    for place, allocation in enumerate(trace.allocations):
        by_address[allocation.address].append(place)
    found = {}
    for storage in trace.storages:
        if not storage.packs:
            continue
        places = by_address.get(storage.address, [])
        events = [trace.allocations[place].event for place in places]
        # The last time that the address was handed out before the storage was packed.
        last = bisect_left(events, storage.packed + 1) - 1
        while last >= 0 and trace.allocations[places[last]].bytes <= 0:
            last -= 1
        if last < 0 or last + 1 >= len(places) or trace.allocations[places[last]].bytes != storage.bytes:
            continue
        found[storage.number] = (places[last], events[last], events[last + 1])
    return found


def _key(storage: TracedStorage, spans: dict[int, tuple[int, int, int]]) -> tuple[int, int]:
    return storage.address, spans[storage.number][0]


def _activation(index: int, storage: TracedStorage, span: tuple[int, int, int]) -> Buffer:
    marks = _gap_marks(storage)
    assert marks is not None, "only storages with a gap become buffers"
    _, born, released = span
    uses = (marks[0], marks[1] + 1)
    return Buffer(index, storage.number, storage.bytes, "activation", born, uses, max(released, uses[1]))


def _state_buffers(trace: StepTrace, first: int, least_bytes: int) -> list[Buffer]:
    """Return the optimizer's state: read in one event, the update, and idle from then to the next step's."""
    if trace.updates is None:
        return []
    event = trace.updates[1]
    return [
        Buffer(first + place, place, tensor.bytes, "optimizer_state", -1, (event,), None)
        for place, tensor in enumerate(trace.state)
        if tensor.bytes >= least_bytes
    ]


def _curve(trace: StepTrace, moved: set[tuple[int, int]]) -> Int64:
    """Return the highest live bytes of each event, without the storages that are moved."""
    highest = np.zeros(len(trace.event_seconds), dtype=np.int64)
    live, event = trace.before_bytes, -1
    away: set[int] = set()
    for place, allocation in enumerate(trace.allocations):
        for passed in range(event + 1, allocation.event + 1):
            highest[passed] = live
        event = max(event, allocation.event)
        if (allocation.address, place) in moved:
            away.add(allocation.address)
        elif allocation.address in away:
            away.discard(allocation.address)
        else:
            live += allocation.bytes
            highest[event] = max(highest[event], live)
    highest[event + 1 :] = live
    return highest


def largest_saved(trace: StepTrace) -> Sequence[TracedStorage]:
    """Return the saved storages, the largest first."""
    return sorted((storage for storage in trace.storages if storage.packs), key=lambda storage: -storage.bytes)
