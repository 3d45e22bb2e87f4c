"""From lowered graph to a program: groups, order, memory, and the straight-line Python that runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kernels.compiler.ir import Region
from optimizers.fusion.graph import ITEM_BYTES, Lowered, Reference, is_dense, references_in
from optimizers.fusion.group import Group, Grouping, live_definitions
from optimizers.fusion.hoist import hoist_products
from optimizers.fusion.memory import (
    Memory,
    Place,
    Places,
    Slot,
    find_places,
    memory_bytes,
    out_variant,
    plan_arena,
    slices_of_joins,
)
from optimizers.fusion.regions import Bound, RegionBuilder, kernel_name
from optimizers.fusion.schedule import Unit, schedule
from optimizers.fusion.text import write_source

LARGE_BYTES = 1 << 20
"""Above it an output is written where the caller gets it, even if that costs views at each call."""
STAGED_VIEWS = 3
"""From so many views on, copying a small input into the arena is cheaper than making its views at each call."""


@dataclass(frozen=True)
class Program:
    """What runs in the place of forward. `source` defines `bind`; see text.py for its contract."""

    lowered: Lowered
    units: tuple[Unit, ...]
    bounds: dict[int, Bound]
    """The region of each group, by group number."""
    places: Places
    slots: tuple[Slot, ...]
    arena_bytes: int
    staged: tuple[int, ...]
    """Definitions of inputs that are copied into the arena first."""
    source: str

    @property
    def regions(self) -> dict[str, Region]:
        """Return every distinct region by its kernel's name."""
        return {kernel_name(bound.region): bound.region for bound in self.bounds.values()}

    @property
    def kernel_calls(self) -> int:
        """Return how many kernel calls one step makes."""
        return len(self.bounds)

    @property
    def library_calls(self) -> int:
        """Return how many ATen calls one step makes."""
        return sum(unit.kind == "call" for unit in self.units)

    def digest(self) -> str:
        """Return a hash of the program and its kernels."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:24]


def build_program(lowered: Lowered, title: str) -> Program:
    """Return the program of a lowered graph. title: one line for the top of the generated source."""
    lowered = hoist_products(lowered)
    groups = Grouping(lowered).run()
    units = schedule(lowered, groups)
    slices = slices_of_joins(lowered, groups)
    kinds, staged = memory_kinds(lowered, units, groups, slices)
    places = find_places(lowered, kinds)
    for source, part in slices.items():
        places.places[source] = places.places[part]
    bounds = {group.number: RegionBuilder(group, lowered.definitions, places).build() for group in groups}
    uses = _uses(lowered, units, bounds, places)
    slots, size = plan_arena(uses)
    draft = Program(lowered, tuple(units), bounds, places, slots, size, staged, "")
    return Program(lowered, tuple(units), bounds, places, slots, size, staged, write_source(draft, title))


def memory_kinds(
    lowered: Lowered, units: Sequence[Unit], groups: Sequence[Group], slices: dict[int, int]
) -> tuple[dict[int, str], tuple[int, ...]]:
    """Return the kind of memory of each definition that owns some, and the inputs that are staged in the arena."""
    live = live_definitions(lowered)
    returned = {item.source for item in references_in(lowered.outputs)}
    called = [
        reference
        for unit in units
        if unit.kind == "call"
        for reference in lowered.call_inputs(lowered.calls[unit.number])
    ]
    read_by_calls = {reference.source for reference in called}
    # What aliases a slice is read through the concatenation's memory.
    read_by_calls |= {slices[source] for source in read_by_calls if source in slices}
    read_by_calls |= {place[0] for source in read_by_calls if (place := lowered.definitions[source].place)}
    stored = {index for group in groups for index in group.stored} - set(slices)
    staged = _staged_inputs(lowered, called, returned)
    kinds: dict[int, str] = {}
    for definition in lowered.definitions:
        index = definition.index
        if definition.kind in ("input", "weight", "constant"):
            kinds[index] = "arena" if index in staged else definition.kind
        elif index not in live or definition.place is not None:
            continue
        elif definition.kind == "call":
            owned = out_variant(lowered.calls[definition.number], lowered) and index not in returned
            kinds[index] = "arena" if owned else "library"
        elif definition.kind == "join" or index in stored:
            fresh = index in returned and (index not in read_by_calls or memory_bytes(definition) > LARGE_BYTES)
            kinds[index] = "output" if fresh else "arena"
    return kinds, staged


def _staged_inputs(lowered: Lowered, called: Sequence[Reference], returned: Collection[int]) -> tuple[int, ...]:
    staged = []
    for definition in lowered.definitions:
        if definition.kind != "input" or definition.index in returned or definition.dtype not in ITEM_BYTES:
            continue
        views = {reference for reference in called if reference.source == definition.index}
        small = memory_bytes(definition) <= LARGE_BYTES and is_dense(definition.shape, definition.strides)
        if len(views) >= STAGED_VIEWS and small and definition.numel:
            staged.append(definition.index)
    return tuple(staged)


def _uses(
    lowered: Lowered, units: Sequence[Unit], bounds: dict[int, Bound], places: Places
) -> dict[Memory, tuple[int, int, int]]:
    """Return bytes, first and last step of each arena memory; inputs and outputs live through the whole program."""
    steps: dict[Memory, list[int]] = {}

    def touch(place: Place | None, step: int) -> None:
        if place is not None and place.memory.kind == "arena":
            steps.setdefault(place.memory, []).append(step)

    for step, unit in enumerate(units):
        if unit.kind == "group":
            for memory, _ in bounds[unit.number].memories:
                touch(Place(memory, 0, ()), step)
            continue
        call = lowered.calls[unit.number]
        for index in (*(reference.source for reference in lowered.call_inputs(call)), *call.results):
            touch(places.places.get(index) if index is not None else None, step)
    for definition in lowered.definitions:
        if definition.kind == "input":
            touch(places.places.get(definition.index), -1)
    for reference in references_in(lowered.outputs):
        touch(places.places.get(reference.source), len(units))
    return {
        memory: (memory_bytes(lowered.definitions[memory.number]), min(where), max(where))
        for memory, where in steps.items()
    }
