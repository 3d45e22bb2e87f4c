"""From the body of a loop to a loop program: regions and products in order, every operand given a window of memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from kernels.compiler.ir import Access, Buffer, Region, Store, Value
from kernels.compiler.loop_fuse import join
from kernels.compiler.loop_ir import Apply, Fused, LoopBuffer, LoopProgram, Pack, Product, Term, Window
from kernels.compiler.loop_product import packed_bytes, packed_layout, worth_fusing, worth_packing
from optimizers.fusion.graph import ITEM_BYTES, Call, Definition, Reference, references_in, span
from optimizers.fusion.group import Group, Grouping, live_definitions
from optimizers.fusion.loops_body import Body
from optimizers.fusion.loops_fuse import Step
from optimizers.fusion.loops_fuse import steps as join_steps
from optimizers.fusion.loops_initial import Initial, initial_value
from optimizers.fusion.memory import (
    ALIGNMENT,
    Memory,
    Places,
    find_places,
    memory_bytes,
    plan_arena,
    slices_of_joins,
)
from optimizers.fusion.regions import Bound, RegionBuilder
from optimizers.fusion.reroll_classify import Before, Rolled
from optimizers.fusion.schedule import Unit, schedule

SCRATCH = -1
"""Stands for the loop's own memory among the definitions that it needs."""


@dataclass(frozen=True, slots=True)
class Built:
    """A loop program. memories: the outer definition of each buffer, SCRATCH for the loop's own of `scratch_bytes`."""

    program: LoopProgram
    memories: tuple[int, ...]
    scratch_bytes: int


def build_loop(body: Body, rolled: Rolled, outer: Sequence[Definition]) -> Built:
    """Return the program of a loop. Raises NotALoopError where a carried value begins in a way that no copy makes."""
    return _Builder(body, rolled, outer).build()


@dataclass
class _Builder:
    body: Body
    rolled: Rolled
    outer: Sequence[Definition]
    memories: list[int] = field(default_factory=list)
    nbytes: dict[int, int] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)
    pairs: dict[int, int] = field(default_factory=dict)
    """Offset in the scratch of each carried slot's two halves."""
    slots: dict[int, int] = field(default_factory=dict)
    """Offset in the scratch of each other memory of the body."""
    packs: dict[tuple[object, ...], Pack] = field(default_factory=dict)
    scratch_bytes: int = 0

    def build(self) -> Built:
        lowered = self.body.lowered
        groups = Grouping(lowered).run()
        units = schedule(lowered, groups)
        aliases = slices_of_joins(lowered, groups)
        places = self._places(groups, aliases)
        bounds = {group.number: RegionBuilder(group, lowered.definitions, places).build() for group in groups}
        self._plan([Step(unit) for unit in units], bounds, places)
        # Where operands lie changes once more when products move to their regions; how they are read does not.
        joined = self._joined(units, bounds, places)
        self._plan(joined, bounds, places)
        statements = tuple(self._statement(step, bounds, places) for step in joined)
        prologue: tuple[Apply | Pack, ...] = (*self._prologue(), *self.packs.values())
        # Whatever the loop touches is known now; its own memory comes last.
        buffers = [
            LoopBuffer(f"d{index}" if index != SCRATCH else "scratch", self._size(index), index in self.written)
            for index in self.memories
        ]
        program = LoopProgram(self.rolled.trips, tuple(buffers), prologue, statements)
        return Built(program, tuple(self.memories), self.scratch_bytes)

    def _places(self, groups: Sequence[Group], aliases: Mapping[int, int]) -> Places:
        lowered = self.body.lowered
        live = live_definitions(lowered)
        stored = {index for group in groups for index in group.stored} - set(aliases)
        kinds = {
            d.index: "arena"
            for d in lowered.definitions
            if d.kind == "input"
            or (d.index in live and d.place is None and (d.kind in ("call", "join") or d.index in stored))
        }
        places = find_places(lowered, kinds)
        for source, part in aliases.items():
            places.places[source] = places.places[part]
        return places

    # Memory

    def _plan(self, steps: Sequence[Step], bounds: Mapping[int, Bound], places: Places) -> None:
        """Place what lives within one trip by its first and last use, then two halves for each carried value."""
        uses: dict[Memory, list[int]] = {}
        for number, step in enumerate(steps):
            for unit in (*step.products, step.unit):
                for memory in self._touched(unit, bounds, places):
                    if self._is_scratch(memory.number):
                        uses.setdefault(memory, []).append(number)
        definitions = self.body.lowered.definitions
        planned, size = plan_arena(
            {memory: (memory_bytes(definitions[memory.number]), min(at), max(at)) for memory, at in uses.items()}
        )
        self.slots = {slot.memory.number: slot.offset for slot in planned}
        for slot in dict.fromkeys(self.body.before.values()):
            self.pairs[slot] = size
            size += 2 * self._half(slot)
        self.scratch_bytes = size

    def _half(self, slot: int) -> int:
        nbytes = memory_bytes(self.body.lowered.definitions[self.body.made[slot]])
        return -(-nbytes // ALIGNMENT) * ALIGNMENT

    def _touched(self, unit: Unit, bounds: Mapping[int, Bound], places: Places) -> list[Memory]:
        if unit.kind == "group":
            return [memory for memory, _ in bounds[unit.number].memories]
        call = self.body.lowered.calls[unit.number]
        return [places.places[index].memory for index in _around(call)]

    def _is_scratch(self, index: int) -> bool:
        return not (index in self.body.outside or index in self.body.before or index in self._exits_and_carried)

    @property
    def _exits_and_carried(self) -> set[int]:
        return {*self.body.leaving, *(self.body.made[slot] for slot in self.body.before.values())}

    @cached_property
    def _read(self) -> set[int]:
        """Return the definitions that the trip itself reads, concatenations by any of their parts."""
        lowered = self.body.lowered
        read = {item.source for definition in lowered.definitions for item in references_in(definition.operands)}
        read |= {item.source for call in lowered.calls for item in references_in(call.args)}
        places = [lowered.definitions[index].place for index in read]
        return read | {place[0] for place in places if place is not None}

    def _buffer(self, index: int) -> int:
        if index not in self.memories:
            self.memories.append(index)
        return self.memories.index(index)

    def _size(self, index: int) -> int:
        if index == SCRATCH:
            return self.scratch_bytes
        definition = self._outer(index)
        return span(definition.shape, definition.strides) * ITEM_BYTES[definition.dtype]

    def _outer(self, index: int) -> Definition:
        made = [leave.made for leave in self.body.leaving.values() if leave.made is not None and leave.host == index]
        return made[0] if made else self.outer[index]

    def _window(self, index: int, elements: int, writes: bool) -> Window:
        """Return the window of a memory of the body, from an element on."""
        definition = self.body.lowered.definitions[index]
        item = ITEM_BYTES[definition.dtype]
        if index in self.body.outside:
            source, step = self.body.outside[index]
            return Window(self._buffer(source), elements * item, step * item)
        if index in self.body.leaving:
            leave = self.body.leaving[index]
            if writes:
                self.written.add(leave.host)
            begin = (leave.offset + elements) * item
            value = index if index in self._read else -1
            return Window(self._buffer(leave.host), begin, leave.step * item, value=value)
        if writes:
            self.written.add(SCRATCH)
        buffer = self._buffer(SCRATCH)
        for slot, offset in self.pairs.items():
            made = self.body.made[slot]
            if index == made or self.body.before.get(index) == slot:
                age = int(index != made)
                return Window(buffer, offset + elements * item, 0, self._half(slot), age, made, age)
        return Window(buffer, self.slots[index] + elements * item, value=index)

    # Statements

    def _joined(self, units: Sequence[Unit], bounds: Mapping[int, Bound], places: Places) -> list[Step]:
        def touched(unit: Unit) -> list[int]:
            return [memory.number for memory in self._touched(unit, bounds, places)]

        def fits(group: Unit, calls: Sequence[Unit]) -> bool:
            products = [self._product(call, places) for call in calls]
            good = all(self._fixed(product) and worth_fusing(product, self.rolled.trips) for product in products)
            return good and not isinstance(join(products, self._apply(group, bounds)), str)

        return join_steps(units, touched, self._is_scratch, fits)

    def _statement(self, step: Step, bounds: Mapping[int, Bound], places: Places) -> Apply | Product | Fused:
        if step.unit.kind == "call":
            product = self._product(step.unit, places)
            worth = self._fixed(product) and worth_packing(product, self.rolled.trips)
            return self._packed(product) if worth else product
        apply = self._apply(step.unit, bounds)
        if not step.products:
            return apply
        found = join([self._product(call, places) for call in step.products], apply)
        assert isinstance(found, Fused)
        return replace(found, products=tuple(self._packed(product) for product in found.products))

    def _apply(self, unit: Unit, bounds: Mapping[int, Bound]) -> Apply:
        bound = bounds[unit.number]
        assert isinstance(bound.region, Region), "a loop's own groups are regions"
        windows = tuple(
            self._window(memory.number, elements, buffer.written)
            for (memory, elements), buffer in zip(bound.memories, bound.region.buffers, strict=True)
        )
        return Apply(bound.region, windows)

    def _product(self, unit: Unit, places: Places) -> Product:
        call = self.body.lowered.calls[unit.number]
        (result,) = (index for index in call.results if index is not None)
        definition = self.body.lowered.definitions[result]
        terms = tuple(
            self._term(places, left, right) for left, right in zip(call.args[::2], call.args[1::2], strict=True)
        )
        rows, columns = definition.shape
        return Product(definition.dtype, rows, columns, terms, self._window(result, 0, True), columns)

    def _term(self, places: Places, left: Reference, right: Reference) -> Term:
        memory, a = places.window(left)
        left_window = self._window(memory.number, a.offset, False)
        memory, b = places.window(right)
        return Term(a.shape[1], left_window, _pair(a), self._window(memory.number, b.offset, False), _pair(b))

    def _fixed(self, product: Product) -> bool:
        """Return whether the right factors are the same in every trip, and come from outside."""
        return all(term.right.value < 0 and term.right.step == 0 for term in product.terms)

    def _packed(self, product: Product) -> Product:
        """Return the product with its right factors in panels; they are filled at the beginning of every call."""
        packed = replace(product, terms=tuple(replace(term, packed=True) for term in product.terms))
        terms = []
        for number, term in enumerate(packed.terms):
            key = (packed_layout(packed, number), term.right, term.right_strides)
            if key not in self.packs:
                offset = self.scratch_bytes
                self.scratch_bytes += -(-packed_bytes(packed, number) // ALIGNMENT) * ALIGNMENT
                self.written.add(SCRATCH)
                value = len(self.body.lowered.definitions) + len(self.packs)
                out = Window(self._buffer(SCRATCH), offset, value=value)
                self.packs[key] = Pack(packed, number, term.right, out)
            terms.append(replace(term, right=replace(self.packs[key].out, age=None)))
        return replace(packed, terms=tuple(terms))

    def _prologue(self) -> tuple[Apply, ...]:
        """Return what stores the initial value of each carried slot, as if trip -1 had made it."""
        found = []
        for slot in dict.fromkeys(self.body.before.values()):
            definition = self.body.lowered.definitions[self.body.made[slot]]
            rows = self.rolled.classes
            uses = [item for row in rows for item in row if isinstance(item, Before) and item.slot == slot]
            found.append(self._begin(definition, initial_value(uses, definition, self.outer)))
        return tuple(found)

    def _begin(self, definition: Definition, initial: Initial) -> Apply:
        """Return what copies an initial value, in whatever layout it lies, into the slot."""
        target = self._window(definition.index, 0, True)
        axes = [axis for axis, extent in enumerate(definition.shape) if extent > 1]
        domain = tuple(definition.shape[axis] for axis in axes)
        elements = span(definition.shape, definition.strides)
        written = Buffer("b0", definition.dtype, elements, True)
        store = Store(0, Access(0, 0, tuple(definition.strides[axis] for axis in axes)))
        if initial.constant is not None:
            value = Value("constant", definition.dtype, constant=initial.constant.value)
            return Apply(Region(domain, 0, (written,), (value,), (store,)), (target,))
        read = Buffer("b1", definition.dtype, span(definition.shape, initial.strides))
        strides = tuple(initial.strides[axis] for axis in axes)
        value = Value("load", definition.dtype, access=Access(1, 0, strides))
        region = Region(domain, 0, (written, read), (value,), (store,))
        begin = initial.offset * ITEM_BYTES[definition.dtype]
        return Apply(region, (target, Window(self._buffer(initial.source), begin)))


def _around(call: Call) -> list[int]:
    read = [item.source for item in call.args if isinstance(item, Reference)]
    return [*read, *(index for index in call.results if index is not None)]


def _pair(reference: Reference) -> tuple[int, int]:
    return reference.strides[0], reference.strides[1]
