"""In which order groups and library calls run, and which neighbouring groups become one."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from optimizers.fusion.graph import Lowered, references_in
from optimizers.fusion.group import Group, live_definitions

_MOST_STORES = 12
_MOST_INSTANCES = 160


@dataclass(frozen=True, slots=True)
class Unit:
    """One step: a library call (kind "call") or a group of definitions (kind "group")."""

    kind: str
    number: int


def schedule(lowered: Lowered, groups: list[Group]) -> list[Unit]:
    """Return every live unit after all that it reads; random calls keep their order.

    Groups are merged sideways (`groups` changes) where neighbours share a domain and do not read each other.
    """
    by_number = {group.number: group for group in groups}
    needs = _needs(lowered, by_number)
    order = _sorted(needs, _first_definitions(lowered, by_number), by_number)
    return _merged(order, by_number, needs, groups)


def _producers(lowered: Lowered, groups: dict[int, Group]) -> dict[int, list[Unit]]:
    """Return the units that must have run before a definition can be read from memory."""
    producers: dict[int, list[Unit]] = {}
    for number, call in enumerate(lowered.calls):
        for result in (*call.results, *call.slices):
            if result is not None:
                producers[result] = [Unit("call", number)]
                place = lowered.definitions[result].place
                if place is not None:
                    producers.setdefault(place[0], []).append(Unit("call", number))
    for group in groups.values():
        for index in group.stored:
            producers.setdefault(index, []).append(Unit("group", group.number))
            place = lowered.definitions[index].place
            if place is not None:
                producers.setdefault(place[0], []).append(Unit("group", group.number))
    return producers


def _needs(lowered: Lowered, groups: dict[int, Group]) -> dict[Unit, set[Unit]]:
    producers = _producers(lowered, groups)
    live = live_definitions(lowered)
    needs: dict[Unit, set[Unit]] = {}
    last_random: Unit | None = None
    for number, call in enumerate(lowered.calls):
        if not call.random and not any(result in live for result in (*call.results, *call.slices)):
            continue
        unit = Unit("call", number)
        needs[unit] = {before for item in lowered.call_inputs(call) for before in producers.get(item.source, ())}
        if call.random:
            needs[unit] |= {last_random} if last_random is not None else set()
            last_random = unit
    for group in groups.values():
        unit = Unit("group", group.number)
        read = {item.source for index in group.members for item in references_in(lowered.definitions[index].operands)}
        needs[unit] = {before for index in read - set(group.members) for before in producers.get(index, ())}
    return needs


def _first_definitions(lowered: Lowered, groups: dict[int, Group]) -> dict[Unit, int]:
    first: dict[Unit, int] = {}
    for number, call in enumerate(lowered.calls):
        results = [result for result in (*call.results, *call.slices) if result is not None]
        first[Unit("call", number)] = min(results, default=0)
    for group in groups.values():
        first[Unit("group", group.number)] = min(group.members)
    return first


def _sorted(needs: dict[Unit, set[Unit]], first: dict[Unit, int], groups: dict[int, Group]) -> list[Unit]:
    """Return a topological order, the earliest in the program first, groups of the last one's domain preferred."""
    waiting = {unit: len(before) for unit, before in needs.items()}
    readers: dict[Unit, list[Unit]] = {unit: [] for unit in needs}
    for unit, before in needs.items():
        for other in before:
            readers[other].append(unit)
    ready = [(first[unit], unit.kind, unit.number) for unit, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    order: list[Unit] = []
    while ready:
        chosen = _alike(ready, order, groups) or ready[0]
        ready.remove(chosen)
        heapq.heapify(ready)
        unit = Unit(chosen[1], chosen[2])
        order.append(unit)
        for reader in readers[unit]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                heapq.heappush(ready, (first[reader], reader.kind, reader.number))
    assert len(order) == len(needs), "groups wait for each other"
    return order


def _alike(
    ready: list[tuple[int, str, int]], order: list[Unit], groups: dict[int, Group]
) -> tuple[int, str, int] | None:
    if not order or order[-1].kind != "group":
        return None
    last = groups[order[-1].number]
    alike = [entry for entry in ready if entry[1] == "group" and _same_domain(groups[entry[2]], last)]
    return min(alike, default=None)


def _same_domain(one: Group, other: Group) -> bool:
    return one.extents == other.extents and one.reduced == other.reduced


def _merged(
    order: list[Unit], groups: dict[int, Group], needs: dict[Unit, set[Unit]], all_groups: list[Group]
) -> list[Unit]:
    result: list[Unit] = []
    merged_into: dict[Unit, Unit] = {}
    for unit in order:
        last = result[-1] if result else None
        if (
            last is not None
            and unit.kind == last.kind == "group"
            and _mergeable(groups, last, unit, needs, merged_into)
        ):
            _merge(groups[last.number], groups[unit.number])
            all_groups.remove(groups[unit.number])
            merged_into[unit] = last
        else:
            result.append(unit)
    return result


def _mergeable(
    groups: dict[int, Group], last: Unit, unit: Unit, needs: dict[Unit, set[Unit]], into: dict[Unit, Unit]
) -> bool:
    one, other = groups[last.number], groups[unit.number]
    if not _same_domain(one, other) or last in {into.get(before, before) for before in needs[unit]}:
        return False
    small = len(one.stored) + len(other.stored) <= _MOST_STORES
    return small and one.instances() + other.instances() <= _MOST_INSTANCES


def _merge(one: Group, other: Group) -> None:
    for index, maps in other.members.items():
        known = one.members.setdefault(index, [])
        known += [point for point in maps if point not in known]
    one.stored.update(other.stored)
