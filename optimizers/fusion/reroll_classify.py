"""Where each operand of a repeated op comes from: the same trip, the trip before, or outside, moving evenly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from optimizers.fusion.graph import Reference
from optimizers.fusion.reroll_sequence import Item, OpSequence, Repetition

FEWEST_TRIPS = 3


@dataclass(frozen=True, slots=True)
class Same:
    """What op `slot` of the same trip made."""

    slot: int
    offset: int


@dataclass(frozen=True, slots=True)
class Before:
    """What op `slot` of the trip before made, read through `window`; in the first trip `initial`, of the same shape."""

    slot: int
    offset: int
    initial: Reference
    window: Reference


@dataclass(frozen=True, slots=True)
class Outside:
    """A tensor from outside the loop, from element `offset + step * trip` on."""

    source: int
    offset: int
    step: int


Class = Same | Before | Outside


@dataclass(frozen=True, slots=True)
class Rolled:
    """A stretch of a sequence that is a loop. classes: of each operand of each op of a trip."""

    start: int
    period: int
    trips: int
    classes: tuple[tuple[Class, ...], ...]


def classify(sequence: OpSequence, found: Repetition) -> Rolled | None:
    """Return the longest loop of at least FEWEST_TRIPS trips that begins where the repetition does, or None."""
    trips = found.trips
    rows: list[tuple[Class, ...]] = []
    for slot in range(found.period):
        items = [sequence.items[found.start + trip * found.period + slot] for trip in range(found.trips)]
        row: list[Class] = []
        for number in range(len(items[0].operands)):
            operand, lasting = _operand(sequence, found, slot, [item.operands[number] for item in items])
            trips = min(trips, lasting)
            if operand is None or trips < FEWEST_TRIPS:
                return None
            row.append(operand)
        trips = min(trips, _placed(sequence, found, items))
        if trips < FEWEST_TRIPS:
            return None
        rows.append(tuple(row))
    return Rolled(found.start, found.period, trips, tuple(rows))


def _operand(sequence: OpSequence, found: Repetition, slot: int, windows: list[Reference]) -> tuple[Class | None, int]:
    """Return the class of an operand and for how many trips it holds."""
    end = found.start + found.period * found.trips
    first, second = (sequence.position.get(window.source, -1) for window in windows[:2])
    offset = windows[1].offset
    if not found.start <= second < end:
        step = windows[2].offset - offset
        outside = Outside(windows[1].source, offset - step, step)
        return outside, _lasting(w == _at(outside, windows[1], trip) for trip, w in enumerate(windows))
    distance = found.start + found.period + slot - second
    layout = _layout(windows[1])

    def fixed(trip: int) -> bool:
        place = found.start + trip * found.period + slot - distance
        return sequence.position.get(windows[trip].source, -1) == place and _layout(windows[trip]) == layout

    if 0 < distance <= slot:
        return Same(slot - distance, offset), _lasting(fixed(trip) for trip in range(found.trips))
    if slot < distance <= slot + found.period and not found.start <= first < end:
        alike = windows[0].shape == windows[1].shape
        carried = Before(slot - distance + found.period, offset, windows[0], windows[1])
        return carried, _lasting(fixed(trip) if trip else alike for trip in range(found.trips))
    return None, 0


def _at(operand: Outside, like: Reference, trip: int) -> Reference:
    return Reference(operand.source, operand.offset + operand.step * trip, like.shape, like.strides)


def _layout(window: Reference) -> tuple[object, ...]:
    """Return which elements of its source a window picks: a stride along an axis of extent 1 doesn't matter."""
    strides = tuple(stride for stride, extent in zip(window.strides, window.shape, strict=True) if extent > 1)
    return window.offset, window.shape, strides


def _lasting(holds: Iterable[bool]) -> int:
    count = 0
    for good in holds:
        if not good:
            break
        count += 1
    return count


def _placed(sequence: OpSequence, found: Repetition, items: list[Item]) -> int:
    """Return for how many trips an op that stores into a concatenation stores into one of its own trip."""
    definitions = sequence.lowered.definitions
    hosts = [place[0] if (place := definitions[item.index].place) else None for item in items]
    if hosts[0] is None:
        return found.trips
    places = [sequence.position.get(host, -1) if host is not None else -1 for host in hosts]
    even = [after - before == found.period for before, after in pairwise(places)]
    own = found.start <= places[0] < found.start + found.period
    return 1 + _lasting(even) if own else 0
