"""Stretches of a graph that repeat become loops: one call for all trips, found by ops, shapes and strides alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kernels.compiler.ir import IrError
from kernels.compiler.loop_verify import verify_loop
from optimizers.fusion.graph import ITEM_BYTES, Call, Definition, Lowered, Reference, Scalar, references_in, users_of
from optimizers.fusion.hoist import hoist_products
from optimizers.fusion.loops import Loop
from optimizers.fusion.loops_body import BodyBuilder, NotALoopError, carried_slots, invariant_slots
from optimizers.fusion.loops_build import SCRATCH, Built, build_loop
from optimizers.fusion.loops_leaving import Exit, exits, members
from optimizers.fusion.reroll_classify import FEWEST_TRIPS, Rolled, classify
from optimizers.fusion.reroll_sequence import OpSequence, Repetition, repetitions, resolve, sequence

_FEWEST_OPS = 8
_MOST_CANDIDATES = 12
_MOST_LOOPS = 64
_MOST_TRIALS = 6
_MOST_MULTIPLES = 4
"""So many of the shortest period are tried as one trip: a value may be read several steps later."""
_MOST_ROWS = 3
"""Taller products of inputs stay in their trip: there they are one more term of the sum that the trip computes."""


def reroll(lowered: Lowered) -> Lowered:
    """Return the graph with each loop that was unrolled in it as one call whose target is a Loop."""
    lowered = hoist_products(lowered, _MOST_ROWS)
    refused: set[tuple[int, int, int]] = set()
    for _ in range(_MOST_LOOPS):
        rolled = _first_loop(lowered, refused)
        if rolled is None:
            break
        lowered = hoist_products(rolled, _MOST_ROWS)
    return hoist_products(lowered)


def _first_loop(lowered: Lowered, refused: set[tuple[int, int, int]]) -> Lowered | None:
    """Return the graph with its first loop rolled, None where there is none.

    refused: repetitions that were no loop, by first definition, period and trips; they are not looked at again.
    """
    found = sequence(lowered)
    for run in repetitions(found.items, 0)[:_MOST_CANDIDATES]:
        key = (found.items[run.start].index, run.period, run.trips)
        if key in refused:
            continue
        refused.add(key)
        for multiple in range(1, min(run.trips // FEWEST_TRIPS, _MOST_MULTIPLES) + 1):
            for rolled in _loops_in(found, run, run.period * multiple):
                # Values of two kinds that alternate in one concatenation have to be copied there afterwards.
                for into_joins in (True, False):
                    try:
                        return _replace(found, rolled, into_joins)
                    except (NotALoopError, IrError):
                        continue
    return None


def _loops_in(found: OpSequence, run: Repetition, period: int) -> list[Rolled]:
    """Return the longest loops of a period in a repetition, beginning at any op of its first two trips."""
    loops: list[Rolled] = []
    whole = run.trips * run.period
    for shift in range(2 * period):
        trips = (whole - shift) // period
        if trips < FEWEST_TRIPS:
            break
        rolled = classify(found, Repetition(run.start + shift, period, trips))
        if rolled is None or period * rolled.trips < _FEWEST_OPS or not carried_slots(rolled):
            continue
        loops.append(rolled)
        if rolled.trips * period > whole - period:
            break  # no other start could take in a trip more
    return sorted(loops, key=lambda rolled: -rolled.trips)[:_MOST_TRIALS]


def _replace(found: OpSequence, rolled: Rolled, into_joins: bool) -> Lowered:
    """Return the graph with the loop as a call. Raises NotALoopError or IrError where it cannot be one."""
    lowered = found.lowered
    definitions = list(lowered.definitions)
    fixed = invariant_slots(found, rolled)
    leaving = exits(found, rolled, fixed, len(definitions), into_joins)
    body = BodyBuilder(found, rolled, leaving, fixed).build()
    built = build_loop(body, rolled, definitions)
    verify_loop(built.program)
    _refuse_other_layouts(definitions, built)
    _refuse_cycle(found, rolled, built, leaving)
    inside = members(found, rolled)
    _remove_inside(definitions, inside, fixed)
    definitions += [leave.made for leave in leaving if leave.made is not None]
    number = len(lowered.calls)
    slices = _place_slices(found, rolled, leaving, definitions, number)
    scratch, memories = _scratch(built, definitions, number)
    loop = Loop(built.program, memories, rolled.period, _nodes(found, inside))
    arguments = tuple(
        Reference(index, 0, definitions[index].shape, definitions[index].strides)
        for index, buffer in zip(memories, built.program.buffers, strict=True)
        if not buffer.written
    )
    call = Call(loop, arguments, (), scratch, True, False, slices)
    return _redirected(lowered, definitions, (*_remaining(lowered, inside), call))


def _remove_inside(definitions: list[Definition], inside: Mapping[int, tuple[int, int]], fixed: frozenset[int]) -> None:
    for index, (_, slot) in inside.items():
        if slot not in fixed:
            definitions[index] = dataclasses.replace(definitions[index], kind="gone", operands=(), place=None)


def _place_slices(
    found: OpSequence, rolled: Rolled, leaving: Sequence[Exit], definitions: list[Definition], number: int
) -> tuple[int, ...]:
    """Turn what leaves the loop into slices of the memory that it is stored in; return them."""
    slices = []
    for leave in leaving:
        for trip in leave.placed:
            index = found.items[rolled.start + trip * rolled.period + leave.slot].index
            place = (leave.host, leave.offset + leave.step * trip, leave.strides)
            slices.append(_slice(definitions, index, number, place))
        for index in leave.copies:
            place_before = definitions[index].place
            assert place_before is not None
            slices.append(_slice(definitions, index, number, place_before))
    return tuple(slices)


def _slice(definitions: list[Definition], index: int, number: int, place: tuple[int, int, tuple[int, ...]]) -> int:
    definitions[index] = dataclasses.replace(
        definitions[index], kind="call", op="", operands=(), axes=(), number=number, place=place
    )
    return index


def _scratch(built: Built, definitions: list[Definition], number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Define the loop's own memory, where it needs some; return it, and the definition of each buffer."""
    if SCRATCH not in built.memories:
        return (), built.memories
    index, elements = len(definitions), -(-built.scratch_bytes // ITEM_BYTES["float32"])
    definitions.append(Definition(index, "call", (elements,), (1,), "float32", number=number))
    return (index,), tuple(index if memory == SCRATCH else memory for memory in built.memories)


def _nodes(found: OpSequence, inside: Iterable[int]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found.lowered.definitions[index].node for index in sorted(inside)))


def _remaining(lowered: Lowered, inside: Iterable[int]) -> list[Call]:
    """Return the calls, those of the loop's trips emptied: numbers stay as they are."""
    gone = set(inside)
    return [
        dataclasses.replace(call, args=(), results=()) if gone & set(call.results) else call for call in lowered.calls
    ]


def _redirected(lowered: Lowered, definitions: list[Definition], calls: Sequence[Call]) -> Lowered:
    """Return the graph with every window onto a slice as one onto the memory itself, so that slices line up."""

    def moved(value: Any) -> Any:
        if isinstance(value, Reference):
            return resolve(value, definitions)
        if isinstance(value, list):
            return [moved(item) for item in value]
        return tuple(moved(item) for item in value) if isinstance(value, tuple) else value

    definitions = [
        dataclasses.replace(
            definition, operands=tuple(o if isinstance(o, Scalar) else moved(o) for o in definition.operands)
        )
        if definition.operands
        else definition
        for definition in definitions
    ]
    calls = [dataclasses.replace(call, args=moved(call.args), kwargs=moved(call.kwargs)) for call in calls]
    outputs = moved(lowered.outputs)
    return dataclasses.replace(
        lowered,
        definitions=tuple(definitions),
        calls=tuple(calls),
        outputs=outputs,
        users=users_of(definitions),
    )


def _refuse_other_layouts(definitions: Sequence[Definition], built: Built) -> None:
    """Raise NotALoopError if the loop reads a slice whose elements lie otherwise than its own strides say."""
    for index in built.memories:
        definition = definitions[index] if 0 <= index < len(definitions) else None
        if definition is None or definition.place is None:
            continue
        steps = zip(definition.place[2], definition.strides, definition.shape, strict=True)
        if any(there != own for there, own, extent in steps if extent > 1):
            raise NotALoopError("it reads a slice in another layout")


def _refuse_cycle(found: OpSequence, rolled: Rolled, built: Built, leaving: Sequence[Exit]) -> None:
    """Raise NotALoopError if something that the loop reads is computed from what leaves it."""
    lowered = found.lowered
    inside = members(found, rolled)
    written = {leave.host for leave in leaving}
    parts: dict[int, list[int]] = {}
    for definition in lowered.definitions:
        if definition.place is not None:
            parts.setdefault(definition.place[0], []).append(definition.index)
    fixed = {index for index, (_, slot) in inside.items() if slot in invariant_slots(found, rolled)}
    waiting = [index for index in built.memories if index not in written and index != SCRATCH]
    seen: set[int] = set()
    while waiting:
        index = waiting.pop()
        if index in seen:
            continue
        seen.add(index)
        if (index in inside and index not in fixed) or index in written:
            raise NotALoopError("it reads what is computed from its own results")
        definition = lowered.definitions[index]
        waiting += [item.source for item in references_in(definition.operands)] + parts.get(index, [])
        if definition.place is not None:
            waiting.append(definition.place[0])
        if definition.kind == "call":
            waiting += [item.source for item in lowered.call_inputs(lowered.calls[definition.number])]
