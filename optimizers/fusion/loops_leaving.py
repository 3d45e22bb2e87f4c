"""What leaves a loop, and the memory that it leaves in: slices of a concatenation, a tensor over time, the last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from optimizers.fusion.graph import Definition, Lowered, Reference, references_in
from optimizers.fusion.group import live_definitions
from optimizers.fusion.reroll_classify import Rolled
from optimizers.fusion.reroll_sequence import OpSequence


@dataclass(frozen=True, slots=True)
class Exit:
    """One memory that op `slot` is stored into in every trip, at element `offset + step * trip` of `host`.

    made: the definition `host` where it is new. placed: the trips whose own definition is a slice of it.
    copies: definitions that copied it there until now: the loop stores them itself.
    """

    slot: int
    host: int
    offset: int
    step: int
    strides: tuple[int, ...]
    made: Definition | None
    placed: tuple[int, ...]
    copies: tuple[int, ...] = ()


def members(sequence: OpSequence, rolled: Rolled) -> dict[int, tuple[int, int]]:
    """Return trip and slot of each definition that the loop makes."""
    found = {}
    for trip in range(rolled.trips):
        for slot in range(rolled.period):
            found[sequence.items[rolled.start + trip * rolled.period + slot].index] = (trip, slot)
    return found


def exits(sequence: OpSequence, rolled: Rolled, kept: frozenset[int], first: int, into_joins: bool) -> list[Exit]:
    """Return every exit of the loop.

    kept: slots that stay outside; first: the index of the next new definition; into_joins: concatenations get the
    values directly.
    """
    inside = members(sequence, rolled)
    users = _outside_users(sequence.lowered, inside)
    by_slot: dict[int, list[tuple[int, Definition | None, Reference]]] = defaultdict(list)
    for user, reference in users:
        trip, slot = inside[reference.source]
        if slot not in kept:
            by_slot[slot].append((trip, user, reference))
    found: list[Exit] = []
    for slot in sorted(by_slot):
        index = sequence.items[rolled.start + slot].index
        own = sequence.lowered.definitions[index]
        rest = list(by_slot[slot])
        for join in _joins(by_slot[slot], rolled.trips, own) if into_joins else ():
            copies = {copy for _, copy in join.copied}
            rest = [use for use in rest if use[1] is None or use[1].index not in copies]
            found.append(Exit(slot, join.host, join.offset, join.step, join.strides, None, (), tuple(sorted(copies))))
        if rest:
            trips = sorted({trip for trip, _, _ in rest})
            found.append(_over_time(slot, own, trips, rolled.trips, first + sum(e.made is not None for e in found)))
    return found


def _outside_users(lowered: Lowered, inside: dict[int, tuple[int, int]]) -> list[tuple[Definition | None, Reference]]:
    """Return each window onto the loop's results that something live outside reads; None for calls and outputs."""
    live = live_definitions(lowered)
    found: list[tuple[Definition | None, Reference]] = []
    for definition in lowered.definitions:
        if definition.index in live and definition.index not in inside and definition.fusable:
            found += [(definition, item) for item in references_in(definition.operands) if item.source in inside]
    for call in lowered.calls:
        results = [result for result in (*call.results, *call.slices) if result is not None]
        if not any(result in inside for result in results) and (call.random or any(r in live for r in results)):
            found += [(None, item) for item in lowered.call_inputs(call) if item.source in inside]
    return found + [(None, item) for item in references_in(lowered.outputs) if item.source in inside]


@dataclass(frozen=True, slots=True)
class _Join:
    """A concatenation into which every trip's value is copied, evenly spaced. copied: (trip, part)."""

    host: int
    offset: int
    step: int
    strides: tuple[int, ...]
    copied: tuple[tuple[int, int], ...]


def _joins(uses: Sequence[tuple[int, Definition | None, Reference]], trips: int, own: Definition) -> list[_Join]:
    parts: dict[int, list[tuple[int, Definition]]] = defaultdict(list)
    for trip, user, reference in uses:
        whole = (reference.offset, reference.shape, reference.strides) == (0, own.shape, own.strides)
        if whole and user is not None and user.place is not None and user.op == "identity":
            parts[user.place[0]].append((trip, user))
    found = []
    for host, copies in parts.items():
        join = _even(host, sorted(copies, key=lambda copy: copy[0]), trips)
        if join is not None:
            found.append(join)
    return found


def _even(host: int, copies: list[tuple[int, Definition]], trips: int) -> _Join | None:
    if [trip for trip, _ in copies] != list(range(trips)):
        return None
    places = [copy.place for _, copy in copies]
    (_, first, strides), (_, second, _) = places[0] or (0, 0, ()), places[1] or (0, 0, ())
    step = second - first
    if places != [(host, first + step * trip, strides) for trip in range(trips)]:
        return None
    return _Join(host, first, step, strides, tuple((trip, copy.index) for trip, copy in copies))


def _over_time(slot: int, own: Definition, needed: list[int], trips: int, index: int) -> Exit:
    """Return an exit into new memory: one slice a trip, or one for all where only the last trip's value is needed."""
    last_only = needed == [trips - 1]
    step = 0 if last_only else own.numel
    shape = own.shape if last_only else (trips, *own.shape)
    strides = own.strides if last_only else (own.numel, *own.strides)
    host = Definition(index, "join", shape, strides, own.dtype, node=own.node)
    return Exit(slot, index, 0, step, own.strides, host, tuple(needed))
