"""From lowered graph to a program: groups, order, memory, and the straight-line Python that runs it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from kernels.compiler.ir import Region
from kernels.compiler.kinds import Body, kernel_name
from kernels.compiler.loop_ir import LoopProgram
from kernels.compiler.product_ir import ProductKernel
from optimizers.fusion.coschedule import kept_longer
from optimizers.fusion.graph import ITEM_BYTES, Lowered, Reference, is_dense, references_in
from optimizers.fusion.group import Group, Grouping, live_definitions
from optimizers.fusion.hoist import hoist_products
from optimizers.fusion.linear import bind_products, linear_products
from optimizers.fusion.loops import Loop
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
from optimizers.fusion.memory_verify import verify_memory
from optimizers.fusion.regions import Bound, RegionBuilder
from optimizers.fusion.reroll import reroll
from optimizers.fusion.schedule import Unit, schedule
from optimizers.fusion.targets import bind_targets, kernel_calls
from optimizers.fusion.text import write_source

Kind = TypeVar("Kind", bound=Body)
VIEW_BYTES = 1 << 13
"""So many bytes are copied in the time that one view takes. An output that calls read through views is written in the
arena, where views are made once, and copied for the caller; with few views it is written where the caller gets it."""
LARGE_BYTES = 1 << 20
"""Above it an input is read where it is, even if that costs views at each call."""
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
    def constants(self) -> tuple[torch.Tensor, ...]:
        """Return the tensors that forward makes of Python numbers."""
        return self.lowered.constants

    @property
    def regions(self) -> dict[str, Region]:
        """Return every distinct region by its kernel's name, those of products left out."""
        return self.of_kind(Region)

    @property
    def products(self) -> dict[str, ProductKernel]:
        """Return every distinct product with its region by its kernel's name."""
        return self.of_kind(ProductKernel)

    def of_kind(self, kind: type[Kind]) -> dict[str, Kind]:
        """Return every distinct kernel of a kind by its name."""
        bodies = (bound.region for bound in self.bounds.values())
        return {kernel_name(body): body for body in bodies if isinstance(body, kind)}

    @property
    def loops(self) -> tuple[Loop, ...]:
        """Return every loop that runs in one step."""
        targets = [self.lowered.calls[unit.number].target for unit in self.units if unit.kind == "call"]
        return tuple(target for target in targets if isinstance(target, Loop))

    @property
    def kernels(self) -> dict[str, Body | LoopProgram]:
        """Return every distinct kernel by its name: what bounds compute, and loops."""
        bodies = {kernel_name(bound.region): bound.region for bound in self.bounds.values()}
        return {**bodies, **{loop.name: loop.program for loop in self.loops}}

    @property
    def kernel_calls(self) -> int:
        """Return how many kernel calls one step makes."""
        return len(self.bounds) + len(self.loops)

    @property
    def library_calls(self) -> int:
        """Return how many ATen calls one step makes."""
        calls = [self.lowered.calls[unit.number] for unit in self.units if unit.kind == "call"]
        return sum(not isinstance(call.target, Loop) for call in calls)

    def digest(self) -> str:
        """Return a hash of the program and its kernels."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:24]


def build_program(lowered: Lowered, title: str, rolled: bool = False, lanes: int | None = None) -> Program:
    """Return the program of a lowered graph.

    title: one line for the top of the generated source. rolled: with loops where the graph repeats itself.
    lanes: how many kernels may run side by side, by default the CPU's threads.
    """
    lowered = reroll(lowered) if rolled else hoist_products(lowered)
    return _built(lowered, title, lanes or torch.get_num_threads())


def _built(lowered: Lowered, title: str, lanes: int) -> Program:
    """Return the program of a graph whose repeats are loops already, where they are to be."""
    groups = Grouping(lowered).run()
    order = schedule(lowered, groups)
    slices = slices_of_joins(lowered, groups)
    products = linear_products(lowered)
    kernels = {*products, *kernel_calls(lowered)}
    kinds, staged = memory_kinds(lowered, order, groups, slices, kernels)
    places = find_places(lowered, kinds)
    for source, part in slices.items():
        places.places[source] = places.places[part]
    bounds = {group.number: RegionBuilder(group, lowered.definitions, places).build() for group in groups}
    linears = bind_products(lowered, order, bounds, places, products)
    if linears.stay:
        # What surrounds them was placed for kernels: it is placed again, for the library.
        return _built(replace(lowered, library=lowered.library | linears.stay), title, lanes)
    units, bounds = bind_targets(lowered, linears.units, linears.bounds, places)
    uses = kept_longer(_uses(lowered, units, bounds, places), lanes)
    slots, size = plan_arena(uses)
    draft = Program(lowered, units, bounds, places, slots, size, staged, "")
    verify_memory(draft)
    return replace(draft, source=write_source(draft, title))


def memory_kinds(
    lowered: Lowered,
    units: Sequence[Unit],
    groups: Sequence[Group],
    slices: dict[int, int],
    products: Collection[int] = (),
) -> tuple[dict[int, str], tuple[int, ...]]:
    """Return the kind of memory of each definition that owns some, and the inputs that are staged in the arena.

    products: numbers of the calls that kernels will compute.
    """
    live = live_definitions(lowered)
    returned = {item.source for item in references_in(lowered.outputs)}
    called = [
        reference
        for unit in units
        if unit.kind == "call"
        # A kernel reads addresses: it needs no tensor, and so no view.
        if unit.number not in products and not isinstance(lowered.calls[unit.number].target, Loop)
        for reference in lowered.call_inputs(lowered.calls[unit.number])
    ]
    views = _views_of(lowered, called, slices)
    stored = {index for group in groups for index in group.stored} - set(slices)
    staged = _staged_inputs(lowered, called, returned)
    kinds: dict[int, str] = {}
    for definition in lowered.definitions:
        index = definition.index
        if definition.kind in ("input", "weight", "constant"):
            kinds[index] = "arena" if index in staged else definition.kind
        elif index not in live or definition.place is not None:
            continue
        elif definition.kind == "call" and definition.number not in products:
            owned = out_variant(lowered.calls[definition.number], lowered) and index not in returned
            kinds[index] = "arena" if owned else "library"
        elif definition.kind in ("call", "join") or index in stored:
            fresh = index in returned and memory_bytes(definition) > VIEW_BYTES * views[index]
            kinds[index] = "output" if fresh else "arena"
    return kinds, staged


def _views_of(lowered: Lowered, called: Sequence[Reference], slices: dict[int, int]) -> Counter[int]:
    """Return, for each definition that owns memory, how many windows calls have onto it, but for the whole of it."""
    views: Counter[int] = Counter()
    for reference in set(called):
        definition = lowered.definitions[reference.source]
        # What aliases a slice is read through the concatenation's memory.
        part = slices.get(reference.source, reference.source)
        place = lowered.definitions[part].place
        owner = part if place is None else place[0]
        whole = (reference.offset, reference.shape, reference.strides) == (0, definition.shape, definition.strides)
        views[owner] += not (whole and owner == reference.source)
    return views


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
        for index in (*(reference.source for reference in lowered.call_inputs(call)), *call.results, *call.slices):
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
