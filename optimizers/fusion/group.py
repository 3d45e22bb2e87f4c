"""Which definitions one region computes: greedy, consumers first, never a cycle, duplicates of cheap producers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from optimizers.fusion.graph import Affine, Definition, Lowered, Map, Reference, invert, linear, references_in
from optimizers.fusion.loops import Loop

# What is worth storing rather than computing a second time.
_COSTLY = frozenset(
    ("exp", "expm1", "log", "log1p", "log2", "sqrt", "rsqrt", "reciprocal", "sigmoid", "tanh", "erf", "sin", "cos",
     "pow", "div", "remainder", "atan2")
)  # fmt: skip
_FREE = frozenset(("constant", "index", "identity", "cast"))
_MOST_INSTANCES = 120
_MOST_BUFFERS = 40
_DEEPEST_EPILOGUE = 16


@dataclass(slots=True)
class Group:
    """A region in the making.

    extents: of its axes; `reduced` are the positions of those that reductions run over.
    members: for each definition that it computes, the index maps at which it is needed.
    stored:  members that go to memory, each with the map at which it is stored.
    """

    number: int
    extents: list[int]
    reduced: tuple[int, ...] = ()
    members: dict[int, list[Map]] = field(default_factory=dict)
    stored: dict[int, Map] = field(default_factory=dict)

    @property
    def outer(self) -> tuple[int, ...]:
        """Return the positions of the axes that are not reduced."""
        return tuple(axis for axis in range(len(self.extents)) if axis not in self.reduced)

    def instances(self) -> int:
        """Return how many values the region computes."""
        return sum(len(maps) for maps in self.members.values())

    def work(self, point: Map) -> int:
        """Return at how many points of the domain a value at `point` is computed."""
        if any(row[axis] for _, row in point for axis in self.reduced):
            return math.prod(self.extents)
        return math.prod(self.extents[axis] for axis in self.outer)


def axes_of(group: Group, definition: Definition, point: Map) -> Map:
    """Return the map of a reduction's operand, given the map of its result."""
    rows = list(point)
    for axis, position in zip(definition.axes, group.reduced, strict=True):
        rows[axis] = (0, tuple(1 if k == position else 0 for k in range(len(group.extents))))
    return tuple(rows)


def operand_maps(group: Group, definition: Definition, point: Map) -> list[tuple[Reference, Affine]]:
    """Return each tensor operand of `definition` at `point`, and its place in memory over the group's axes."""
    inner = axes_of(group, definition, point) if definition.kind == "reduce" else point
    return [(item, linear(item, inner, group.extents)) for item in definition.operands if isinstance(item, Reference)]


class Grouping:
    """Assigns every live computed definition to groups, the last definition first."""

    def __init__(self, lowered: Lowered) -> None:
        self.lowered = lowered
        self.definitions = lowered.definitions
        self.groups: dict[int, Group] = {}
        self.homes: dict[int, list[int]] = {}
        """For each computed definition, the groups that compute it."""
        self.live = live_definitions(lowered)
        self.call_users: dict[int, list[int]] = {}
        for number, call in enumerate(lowered.calls):
            for reference in lowered.call_inputs(call):
                self.call_users.setdefault(reference.source, []).append(number)
        self.returned = {item.source for item in lowered.outputs if isinstance(item, Reference)}

    def run(self) -> list[Group]:
        """Return the groups."""
        for definition in reversed(self.definitions):
            if definition.fusable and definition.index in self.live:
                self._place(definition)
        return list(self.groups.values())

    def _place(self, definition: Definition) -> None:
        index = definition.index
        users = [user for user in self.lowered.users[index] if user in self.live]
        homes = sorted({home for user in users for home in self.homes[user]}, key=self._first)
        needed = index in self.returned or index in self.call_users or definition.place is not None
        fits = {home: fit for home in homes if (fit := self._fit(self.groups[home], definition, users)) is not None}
        inside = not needed and len(fits) == len(homes) and (len(homes) == 1 or definition.op in _FREE)
        if inside and all(self._worth(self.groups[home], definition, fit) for home, fit in fits.items()):
            for home, fit in fits.items():
                self._join(self.groups[home], definition, fit)
            return
        for home, fit in fits.items():
            stored = storable(*fit, definition)
            if stored is not None and self._worth(fit[0], definition, fit) and not self._cycle(index, home, users):
                self._join(self.groups[home], definition, fit)
                self.groups[home].stored[index] = stored
                return
        self._seed(definition)

    def _first(self, home: int) -> int:
        return min(self.groups[home].members)

    def _fit(self, group: Group, definition: Definition, users: Iterable[int]) -> tuple[Group, list[Map]] | None:
        """Return the group once `definition` is in it and the maps at which it is needed; None if it can't be."""
        if group.instances() >= _MOST_INSTANCES or len(group.stored) >= _MOST_BUFFERS // 2:
            return None
        maps: list[Map] = []
        for user in users:
            for point in group.members.get(user, ()):
                for reference, place in operand_maps(group, self.definitions[user], point):
                    if reference.source != definition.index:
                        continue
                    inverse = invert(place, definition, group.extents)
                    if inverse is None:
                        return None
                    if inverse not in maps:
                        maps.append(inverse)
        if definition.kind == "compute":
            return group, maps
        return _reducing(group, definition, maps)

    def _worth(self, group: Group, definition: Definition, fit: tuple[Group, list[Map]]) -> bool:
        """Return whether computing it inside costs little more than computing it once."""
        if definition.op in _FREE:
            return True
        shape, maps = fit
        if not group.reduced and self._ends_reduction(shape, definition, maps):
            return True
        points = math.prod(definition.domain)
        work = sum(shape.work(point) for point in maps)
        if definition.kind == "reduce":
            work = len(maps) * math.prod(shape.extents)
        return work <= points or (definition.kind == "compute" and definition.op not in _COSTLY and work <= 4 * points)

    def _ends_reduction(self, group: Group, definition: Definition, maps: list[Map]) -> bool:
        """Return whether it is a value for each row that comes out of a reduction along the group's other axes.

        Once that reduction is in the group too, the value is computed once a row.
        """
        used = {axis for point in maps for _, row in point for axis, coefficient in enumerate(row) if coefficient}
        unused = [extent for axis, extent in enumerate(group.extents) if axis not in used]
        waiting, seen = [definition], 0
        while waiting and unused and seen < _DEEPEST_EPILOGUE:
            current = waiting.pop()
            seen += 1
            for operand in references_in(current.operands):
                above = self.definitions[operand.source]
                if above.kind == "reduce":
                    if [above.domain[axis] for axis in above.axes] == unused:
                        return True
                elif above.kind == "compute" and above.numel == current.numel:
                    waiting.append(above)
        return False

    def _join(self, group: Group, definition: Definition, fit: tuple[Group, list[Map]]) -> None:
        shape, maps = fit
        if shape is not group:
            group.extents, group.reduced = shape.extents, shape.reduced
            group.members, group.stored = shape.members, shape.stored
        group.members[definition.index] = maps
        self.homes.setdefault(definition.index, []).append(group.number)

    def _seed(self, definition: Definition) -> None:
        """Start a group whose axes are the definition's own (for a reduction: its operand's)."""
        shape = definition.domain
        kept = [axis for axis, extent in enumerate(shape) if extent > 1 and axis not in definition.axes]
        kept += list(definition.axes)
        group = Group(len(self.groups), [shape[axis] for axis in kept])
        group.reduced = tuple(range(len(kept) - len(definition.axes), len(kept)))
        point = tuple(
            (0, tuple(1 if other == axis and axis not in definition.axes else 0 for other in kept))
            for axis in range(len(shape))
        )
        group.members[definition.index] = [point]
        group.stored[definition.index] = point
        self.groups[group.number] = group
        self.homes[definition.index] = [group.number]

    def _cycle(self, index: int, home: int, users: Iterable[int]) -> bool:
        """Return whether storing `index` in group `home` would make the group wait for itself."""
        outside: list[tuple[str, int]] = [("call", number) for number in self.call_users.get(index, ())]
        outside += [("group", other) for user in users for other in self.homes[user] if other != home]
        return reaches(self, outside, home)


def reaches(grouping: Grouping, start: Iterable[tuple[str, int]], home: int) -> bool:
    """Return whether what any unit of `start` computes is needed, however indirectly, by group `home`."""
    seen: set[tuple[str, int]] = set()
    waiting = list(start)
    while waiting:
        unit = waiting.pop()
        if unit == ("group", home):
            return True
        if unit in seen:
            continue
        seen.add(unit)
        waiting.extend(reader for made in _made(grouping, unit) for reader in _readers(grouping, made))
    return False


def _made(grouping: Grouping, unit: tuple[str, int]) -> Iterable[int]:
    kind, number = unit
    if kind == "call":
        call = grouping.lowered.calls[number]
        places = [place for index in call.slices if (place := grouping.definitions[index].place) is not None]
        hosts = dict.fromkeys(place[0] for place in places)
        return [*call.slices, *hosts, *(result for result in call.results if result is not None)]
    stored = grouping.groups[number].stored
    joins = [place[0] for index in stored if (place := grouping.definitions[index].place) is not None]
    return [*stored, *joins]


def _readers(grouping: Grouping, index: int) -> Iterable[tuple[str, int]]:
    yield from (("call", number) for number in grouping.call_users.get(index, ()))
    for user in grouping.lowered.users[index]:
        yield from (("group", home) for home in grouping.homes.get(user, ()))


def _reducing(group: Group, definition: Definition, maps: list[Map]) -> tuple[Group, list[Map]] | None:
    """Return the group and maps once a reduction is in it: its reduced axes must be the reduction's."""
    extents = [definition.domain[axis] for axis in definition.axes]
    used = {axis for point in maps for _, row in point for axis, c in enumerate(row) if c}
    if group.reduced:
        fits = not used & set(group.reduced) and [group.extents[axis] for axis in group.reduced] == extents
        return (group, maps) if fits else None
    unused = tuple(axis for axis in range(len(group.extents)) if axis not in used)
    if unused:
        if [group.extents[axis] for axis in unused] != extents:
            return None
        return Group(group.number, group.extents, unused, group.members, group.stored), maps
    return _widened(group, extents), [_widen(point, len(extents)) for point in maps]


def _widened(group: Group, extents: list[int]) -> Group:
    """Return the group with new reduced axes, along which none of its values vary so far."""
    count, rank = len(extents), len(group.extents)
    return Group(
        group.number,
        [*group.extents, *extents],
        tuple(range(rank, rank + count)),
        {index: [_widen(point, count) for point in maps] for index, maps in group.members.items()},
        {index: _widen(point, count) for index, point in group.stored.items()},
    )


def _widen(point: Map, count: int) -> Map:
    return tuple((constant, (*row, *((0,) * count))) for constant, row in point)


def storable(group: Group, maps: list[Map], definition: Definition) -> Map | None:
    """Return the map among `maps` that meets every element of the definition exactly once."""
    for point in maps:
        axes: list[int] = []
        for extent, (constant, row) in zip(definition.shape, point, strict=True):
            used = [axis for axis, coefficient in enumerate(row) if coefficient]
            if extent == 1:
                if constant or used:
                    break
            elif constant or len(used) != 1 or row[used[0]] != 1 or group.extents[used[0]] != extent:
                break
            axes += used
        else:
            if sorted(axes) in (list(range(len(group.extents))), list(group.outer)) and len(set(axes)) == len(axes):
                return point
    return None


def live_definitions(lowered: Lowered) -> set[int]:
    """Return the definitions that an output needs; calls that draw random numbers stay alive too."""
    live: set[int] = set()
    parts: dict[int, list[int]] = {}
    for definition in lowered.definitions:
        if definition.place is not None:
            parts.setdefault(definition.place[0], []).append(definition.index)
    waiting = [item.source for item in references_in(lowered.outputs)]
    for call in lowered.calls:
        if call.random:
            waiting += [reference.source for reference in lowered.call_inputs(call)]
    while waiting:
        index = waiting.pop()
        if index in live:
            continue
        live.add(index)
        definition = lowered.definitions[index]
        waiting += [item.source for item in references_in(definition.operands)]
        waiting += parts.get(index, [])
        if definition.place is not None:
            waiting.append(definition.place[0])
        if definition.kind == "call":
            call = lowered.calls[definition.number]
            waiting += [reference.source for reference in lowered.call_inputs(call)]
            if isinstance(call.target, Loop):
                # A loop's own memory, and all that it stores: it cannot leave out a part.
                waiting += [item for item in (*call.results, *call.slices) if item is not None]
    return live
