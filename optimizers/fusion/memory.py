"""Where each tensor lives: inputs, weights, one arena with reused slots, fresh outputs, the library's own results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optimizers.fusion.graph import ITEM_BYTES, Affine, Call, Definition, Lowered, Map, Reference, invert, linear
from optimizers.fusion.group import Group
from optimizers.fusion.loops import Loop

ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Memory:
    """A block of memory, named by the definition that it was made for.

    kind: "input", "weight", "constant", "arena" (a slot of the arena), "output" (allocated at each call),
          "library" (allocated by the op that returns it).
    """

    kind: str
    number: int
    dtype: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a definition's elements are in a memory: it may be a slice of a concatenation."""

    memory: Memory
    offset: int
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """A piece of the arena, in bytes, and the first and last step that use it."""

    memory: Memory
    offset: int
    nbytes: int
    first: int
    last: int


class Places:
    """The place of every definition that is in memory."""

    def __init__(self, definitions: Sequence[Definition], places: dict[int, Place]) -> None:
        self.definitions = definitions
        self.places = places

    def locate(self, reference: Reference, point: Map, extents: Sequence[int]) -> tuple[Memory, int, tuple[int, ...]]:
        """Return memory, constant and coefficients of `reference` at `point` of a domain of these extents.

        The definition's own dense layout and its place may differ: then the index is found and placed anew.
        """
        definition, place = self.definitions[reference.source], self.places[reference.source]
        constant, row = linear(reference, point, extents)
        if place.strides == definition.strides:
            return place.memory, constant + place.offset, row
        inverse = invert((constant, row), definition, extents)
        assert inverse is not None, "slices_of_joins admits only references that `relocatable` accepts"
        return place.memory, *_at(place, inverse, len(extents))

    def window(self, reference: Reference) -> tuple[Memory, Reference]:
        """Return the memory of `reference` and the same window in that memory's elements."""
        rank = len(reference.shape)
        memory, constant, row = self.locate(reference, identity(rank), reference.shape)
        # A BLAS call copies an operand whose stride along an axis of extent 1 is 0, so keep the original one there.
        strides = tuple(
            old if extent == 1 else new
            for extent, old, new in zip(reference.shape, reference.strides, row, strict=True)
        )
        return memory, Reference(reference.source, constant, reference.shape, strides)


def _at(place: Place, point: Map, rank: int) -> Affine:
    constant = place.offset + sum(s * c for s, (c, _) in zip(place.strides, point, strict=True))
    row = tuple(sum(s * r[axis] for s, (_, r) in zip(place.strides, point, strict=True)) for axis in range(rank))
    return constant, row


def identity(rank: int) -> Map:
    """Return the map of a domain onto itself."""
    return tuple((0, tuple(int(axis == other) for other in range(rank))) for axis in range(rank))


def find_places(lowered: Lowered, kept: dict[int, str]) -> Places:
    """Return the place of each definition. kept: for definitions that own memory, the kind of that memory."""
    definitions = lowered.definitions
    places: dict[int, Place] = {}
    for definition in definitions:
        if definition.place is None and definition.index in kept:
            memory = Memory(kept[definition.index], definition.index, definition.dtype)
            places[definition.index] = Place(memory, 0, definition.strides)
    for definition in definitions:
        if definition.place is not None and definition.place[0] in places:
            join, offset, strides = definition.place
            places[definition.index] = Place(places[join].memory, offset, strides)
    return Places(definitions, places)


def slices_of_joins(lowered: Lowered, groups: Sequence[Group]) -> dict[int, int]:
    """Return definitions that can live in a slice of a concatenation: {definition: the part that copies it}.

    The part must copy the whole of it in the same region, nothing returned may alias the slice, and every other
    reader must be able to follow the slice's strides.
    """
    returned = {item.source for item in lowered.outputs if isinstance(item, Reference)}
    references = references_by_source(lowered)
    fixed = loop_operands(lowered)
    found: dict[int, int] = {}
    for group in groups:
        for part in group.stored:
            definition = lowered.definitions[part]
            if definition.place is None:
                continue
            operand = definition.operands[0]
            assert isinstance(operand, Reference)
            source = lowered.definitions[operand.source]
            whole = operand.offset == 0 and operand.shape == source.shape and operand.strides == source.strides
            owned = source.fusable and source.place is None and operand.source in group.stored
            free = whole and owned and operand.source not in returned | fixed | set(found)
            if free and all(relocatable(reference, source) for reference in references.get(operand.source, ())):
                found[operand.source] = part
    return found


def loop_operands(lowered: Lowered) -> set[int]:
    """Return the definitions that loops read: a loop's kernel is made for the strides that they have now."""
    loops = [call for call in lowered.calls if isinstance(call.target, Loop)]
    return {item.source for call in loops for item in lowered.call_inputs(call)}


def relocatable(reference: Reference, definition: Definition) -> bool:
    """Return whether the reference picks elements by an affine index, so that another layout can serve it."""
    rank = len(reference.shape)
    return invert(linear(reference, identity(rank), reference.shape), definition, reference.shape) is not None


def references_by_source(lowered: Lowered) -> dict[int, list[Reference]]:
    """Return, for each definition, every window through which something reads it."""
    found: dict[int, list[Reference]] = {}
    for definition in lowered.definitions:
        for operand in definition.operands:
            if isinstance(operand, Reference):
                found.setdefault(operand.source, []).append(operand)
    for call in lowered.calls:
        for reference in lowered.call_inputs(call):
            found.setdefault(reference.source, []).append(reference)
    return found


def plan_arena(uses: dict[Memory, tuple[int, int, int]]) -> tuple[tuple[Slot, ...], int]:
    """Return a slot for each memory and the arena's size in bytes.

    uses: {memory: (bytes, first step, last step)}. Slots whose steps overlap never share a byte; the largest is
    placed first, each at the lowest offset that is free during all its steps.
    """
    slots: list[Slot] = []
    for memory, (nbytes, first, last) in sorted(
        uses.items(), key=lambda item: (-item[1][0], item[1][1], item[0].number)
    ):
        size = -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT
        offset = 0
        for slot in sorted(slots, key=lambda slot: slot.offset):
            if slot.last < first or last < slot.first:
                continue
            if offset + size <= slot.offset:
                break
            offset = max(offset, slot.offset + slot.nbytes)
        slots.append(Slot(memory, offset, size, first, last))
    return tuple(slots), max((slot.offset + slot.nbytes for slot in slots), default=0)


def memory_bytes(definition: Definition) -> int:
    """Return the bytes of a definition's own dense memory."""
    return definition.numel * ITEM_BYTES[definition.dtype] if definition.dtype in ITEM_BYTES else 0


OUT_VARIANTS = frozenset(("aten.mm.default", "aten.bmm.default", "aten.addmm.default", "aten.baddbmm.default"))


def out_variant(call: Call, lowered: Lowered) -> bool:
    """Return whether the call can write into memory that it is given."""
    if isinstance(call.target, Loop):
        return True
    result = lowered.definitions[call.results[0]] if call.results and call.results[0] is not None else None
    return str(call.target) in OUT_VARIANTS and result is not None and result.dtype in ITEM_BYTES
