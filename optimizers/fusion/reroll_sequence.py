"""A lowered graph as a sequence of ops with signatures, in which a loop that was unrolled shows as a repetition."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optimizers.fusion.graph import Definition, Lowered, Reference, Scalar, references_in
from optimizers.fusion.group import live_definitions
from optimizers.fusion.memory import Place, Places, relocatable

_NEAREST = 8
"""To how many earlier ops of the same signature a distance is counted: repeated layers hide the true period."""
_MOST_PERIODS = 40


@dataclass(frozen=True, slots=True)
class Item:
    """One op of the sequence.

    index:     the definition that it makes. call: its number among the calls, None for a computed definition.
    operands:  the windows that it reads, through slices to the memory that they are slices of.
    signature: a number for its op, shapes, strides and plain arguments; not which tensors it reads, nor where in them.
    """

    index: int
    call: int | None
    operands: tuple[Reference, ...]
    signature: int


@dataclass(frozen=True)
class OpSequence:
    """The live ops of a graph in program order."""

    lowered: Lowered
    items: tuple[Item, ...]

    @cached_property
    def position(self) -> dict[int, int]:
        """Return where in the sequence each definition is made."""
        return {item.index: place for place, item in enumerate(self.items)}


@dataclass(frozen=True, slots=True)
class Repetition:
    """Signatures repeat: `items[start + k]` and `items[start + k + period]` look alike, for `trips` trips."""

    start: int
    period: int
    trips: int

    @property
    def covered(self) -> int:
        """Return how many ops it takes in."""
        return self.period * self.trips


def sequence(lowered: Lowered) -> OpSequence:
    """Return the live ops of a graph."""
    live = live_definitions(lowered)
    items: list[Item] = []
    forms: dict[object, int] = {}
    for definition in lowered.definitions:
        if definition.index in live and (definition.fusable or definition.kind == "join"):
            operands = tuple(resolve(item, lowered.definitions) for item in references_in(definition.operands))
            items.append(Item(definition.index, None, operands, _number(forms, _signature(definition))))
    for number, call in enumerate(lowered.calls):
        results = [result for result in call.results if result is not None]
        if call.random or any(result in live for result in (*results, *call.slices)):
            operands = tuple(resolve(item, lowered.definitions) for item in lowered.call_inputs(call))
            shapes = tuple(_layout(lowered.definitions[result]) for result in results)
            form = (str(call.target), _form(call.args), _form(call.kwargs), shapes)
            # Of a product taken out of the steps the whole counts, which stands behind them all, not its slices.
            first = min(results or call.slices, default=len(lowered.definitions))
            items.append(Item(first, number, operands, _number(forms, form)))
    items.sort(key=lambda item: item.index)
    return OpSequence(lowered, tuple(items))


def resolve(reference: Reference, definitions: Sequence[Definition]) -> Reference:
    """Return the same window in the memory that its source is a slice of, where an affine index leads there."""
    source = definitions[reference.source]
    if source.place is None:
        return reference
    if source.place[2] != source.strides and not relocatable(reference, source):
        return reference
    host, offset, strides = source.place
    # Only the one definition is located: the memory's kind plays no part.
    places = Places(definitions, {source.index: Place(_NOWHERE, offset, strides)})
    place = places.window(reference)[1]
    return Reference(host, place.offset, place.shape, place.strides)


_NOWHERE: Any = None


def repetitions(items: Sequence[Item], low: int) -> list[Repetition]:
    """Return the longest repetition of each likely period from `low` on, the one that covers most first."""
    signatures = [item.signature for item in items]
    distances: Counter[int] = Counter()
    last: dict[int, list[int]] = defaultdict(list)
    for place in range(low, len(items)):
        before = last[signatures[place]]
        for other in before[-_NEAREST:]:
            distances[place - other] += 1
        before.append(place)
    found = []
    for period in sorted(distance for distance, _ in distances.most_common(_MOST_PERIODS)):
        found += _runs(signatures, low, period)
    return sorted(found, key=lambda run: (-run.covered, run.period))


def _runs(signatures: Sequence[int], low: int, period: int) -> list[Repetition]:
    runs, length = [], 0
    for place in range(low, len(signatures) - period + 1):
        if place < len(signatures) - period and signatures[place] == signatures[place + period]:
            length += 1
            continue
        if length >= 2 * period:
            runs.append(Repetition(place - length, period, length // period + 1))
        length = 0
    return runs


def _number(forms: dict[object, int], form: object) -> int:
    """Return the same number for equal forms. A hash would do so for some that differ."""
    return forms.setdefault(form, len(forms))


def _layout(definition: Definition) -> tuple[object, ...]:
    return definition.shape, definition.strides, definition.dtype


def _signature(definition: Definition) -> tuple[object, ...]:
    place = definition.place and definition.place[1:]
    plain = (definition.kind, definition.op, definition.axes, definition.keep, definition.axis, place)
    return (*plain, _layout(definition), _form(definition.operands))


def _form(value: Any) -> Any:
    """Return arguments with each tensor as its shape and strides, numbers by their text (0.0 is not -0.0)."""
    if isinstance(value, Reference):
        return "tensor", value.shape, value.strides
    if isinstance(value, Scalar):
        return "number", repr(value.value)
    if isinstance(value, tuple | list):
        return tuple(_form(item) for item in value)
    return repr(value)
