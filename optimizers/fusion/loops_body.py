"""One trip of a loop as a lowered graph of its own: what it needs are inputs, what it leaves are outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from optimizers.fusion.graph import Call, Definition, Lowered, Operand, Reference, expand, users_of
from optimizers.fusion.loops_leaving import Exit
from optimizers.fusion.loops_sums import merge_products
from optimizers.fusion.reroll_classify import Before, Class, Outside, Rolled, Same
from optimizers.fusion.reroll_sequence import Item, OpSequence

_PRODUCT, _BIASED = torch.ops.aten.mm.default, torch.ops.aten.addmm.default


class NotALoopError(Exception):
    """A repeated stretch that cannot become a loop, in a few words."""


@dataclass(frozen=True)
class Body:
    """One trip. The numbers are of the body's own definitions.

    outside: inputs from outside, with the definition there and the step in elements from trip to trip.
    before:  inputs that are what a slot made in the trip before.
    made:    the definition of each slot that the body computes.
    leaving: the definition that is stored at each exit of the loop; others of the trip may read it there.
    """

    lowered: Lowered
    outside: dict[int, tuple[int, int]]
    before: dict[int, int]
    made: dict[int, int]
    leaving: dict[int, Exit]


def invariant_slots(sequence: OpSequence, rolled: Rolled) -> frozenset[int]:
    """Return the slots whose value is the same in every trip: it is computed once, before the loop."""
    found: set[int] = set()
    for slot, classes in enumerate(rolled.classes):
        definition = sequence.lowered.definitions[sequence.items[rolled.start + slot].index]
        if not definition.fusable or definition.place is not None or not classes:
            continue
        if all(_fixed(item, found) for item in classes):
            found.add(slot)
    return frozenset(found)


def _fixed(item: Class, fixed: set[int]) -> bool:
    return (isinstance(item, Outside) and item.step == 0) or (isinstance(item, Same) and item.slot in fixed)


def carried_slots(rolled: Rolled) -> frozenset[int]:
    """Return the slots that the next trip reads."""
    return frozenset(item.slot for row in rolled.classes for item in row if isinstance(item, Before))


class BodyBuilder:
    """Builds the body from the ops of the second trip: none of its operands is an initial value."""

    def __init__(self, sequence: OpSequence, rolled: Rolled, exits: Sequence[Exit], fixed: frozenset[int]) -> None:
        self.sequence = sequence
        self.rolled = rolled
        self.exits = exits
        self.fixed = fixed
        self.outer = sequence.lowered.definitions
        self.definitions: list[Definition] = []
        self.calls: list[Call] = []
        self.outside: dict[tuple[int, int], int] = {}
        self.before: dict[int, int] = {}
        self.made: dict[int, int] = {}

    def build(self) -> Body:
        """Return the body. Raises NotALoopError for an op that a loop cannot run."""
        for slot in range(self.rolled.period):
            if slot in self.fixed:
                continue
            item = self._item(slot)
            self.made[slot] = self._call(slot, item) if item.call is not None else self._computed(slot, item)
        leaving = self._leaving()
        carried = [self.made[slot] for slot in sorted(carried_slots(self.rolled) - self.fixed)]
        wanted = list(dict.fromkeys((*carried, *leaving)))
        outputs = tuple(self._whole(index) for index in wanted)
        fixed = {index for (_, step), index in self.outside.items() if step == 0}
        definitions, calls = merge_products(self.definitions, self.calls, wanted, fixed)
        lowered = Lowered(tuple(definitions), tuple(calls), outputs, (), users_of(definitions))
        outside = {index: key for key, index in self.outside.items()}
        before = {index: slot for slot, index in self.before.items()}
        return Body(lowered, outside, before, self.made, leaving)

    def _leaving(self) -> dict[int, Exit]:
        """Return the definition that is stored at each exit: what a slot makes itself, or else a copy of it."""
        leaving: dict[int, Exit] = {}
        carried = carried_slots(self.rolled)
        for leave in self.exits:
            source = self.definitions[self.made[leave.slot]]
            alone = leave.slot not in carried and source.index not in leaving and source.place is None
            # A product may be taken in by the one region that reads it, and is then stored nowhere.
            if alone and source.kind != "call" and leave.strides == source.strides:
                leaving[source.index] = leave
                continue
            copy = replace(
                source,
                kind="compute",
                op="identity",
                operands=(self._whole(source.index),),
                axes=(),
                number=-1,
                place=None,
            )
            leaving[self._add(replace(copy, strides=leave.strides))] = leave
        return leaving

    def _item(self, slot: int) -> Item:
        return self.sequence.items[self.rolled.start + self.rolled.period + slot]

    def _add(self, definition: Definition) -> int:
        index = len(self.definitions)
        self.definitions.append(replace(definition, index=index))
        return index

    def _whole(self, index: int) -> Reference:
        definition = self.definitions[index]
        return Reference(index, 0, definition.shape, definition.strides)

    def _operand(self, slot: int, number: int, like: Reference) -> Reference:
        found = self.rolled.classes[slot][number]
        if isinstance(found, Same) and found.slot in self.fixed:
            # Computed before the loop, in the place of the first trip's.
            found = Outside(self.sequence.items[self.rolled.start + found.slot].index, found.offset, 0)
        if isinstance(found, Same):
            return replace(like, source=self.made[found.slot], offset=found.offset)
        if isinstance(found, Before):
            return replace(like, source=self._input_before(found.slot), offset=found.offset)
        key = (found.source, found.step)
        if key not in self.outside:
            self.outside[key] = self._add(_input(self.outer[found.source]))
        return replace(like, source=self.outside[key], offset=found.offset)

    def _input_before(self, slot: int) -> int:
        if slot in self.fixed:
            raise NotALoopError("a carried value that does not change")
        if slot not in self.before:
            definition = self.outer[self._item(slot).index]
            self.before[slot] = self._add(_input(definition))
        return self.before[slot]

    def _operands(self, slot: int, item: Item) -> list[Reference]:
        return [self._operand(slot, number, like) for number, like in enumerate(item.operands)]

    def _computed(self, slot: int, item: Item) -> int:
        definition = self.outer[item.index]
        windows = iter(self._operands(slot, item))
        operands: tuple[Operand, ...] = tuple(
            next(windows) if isinstance(operand, Reference) else operand for operand in definition.operands
        )
        place = definition.place
        if place is not None:
            host = self.sequence.position[place[0]] - self.rolled.start - self.rolled.period
            place = (self.made[host], *place[1:])
        return self._add(replace(definition, operands=operands, place=place))

    def _call(self, slot: int, item: Item) -> int:
        assert item.call is not None
        call = self.sequence.lowered.calls[item.call]
        if call.target not in (_PRODUCT, _BIASED) or call.kwargs or any(not _tensor(x) for x in call.args):
            raise NotALoopError(f"{call.target} stays with the library")
        result = self.outer[item.index]
        if result.dtype not in ("float32", "float64"):
            raise NotALoopError(f"a product of {result.dtype}")
        *bias, left, right = self._operands(slot, item)
        number = len(self.calls)
        product = self._add(replace(result, kind="call", number=number, place=None))
        self.calls.append(Call(_PRODUCT, (left, right), (), (product,), False, False))
        if not bias:
            return product
        operands = (self._whole(product), expand(bias[0], result.shape))
        return self._add(replace(result, kind="compute", op="add", operands=operands, number=-1))


def _input(definition: Definition) -> Definition:
    return replace(definition, kind="input", op="", operands=(), axes=(), number=-1, place=None)


def _tensor(argument: Any) -> bool:
    return isinstance(argument, Reference)
