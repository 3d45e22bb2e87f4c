"""Products of slices of one tensor with one matrix become one product: x[:, t] @ W for all t is x @ W."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import pairwise

from optimizers.fusion.graph import Call, Definition, Lowered, Reference, dense_strides, users_of
from optimizers.fusion.memory import loop_operands, references_by_source, relocatable

_FEWEST = 3
_MOST_ELEMENTS = 1 << 24
_FACTORS = {"aten.mm.default": (0, 1), "aten.addmm.default": (1, 2)}
"""Positions of the left and right factor among the arguments."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """The left factors taken together: one window of `shape`, and for each of them the row stride and first row."""

    window: Reference
    row_step: int
    firsts: tuple[int, ...]


def hoist_products(lowered: Lowered, most_rows: int | None = None) -> Lowered:
    """Return the program with each set of such products as one call; their results become slices of its result.

    most_rows: leave float32 products of more rows where they are.
    """
    references = references_by_source(lowered)
    returned = {item.source for item in lowered.outputs if isinstance(item, Reference)}
    alike: dict[tuple[object, ...], list[int]] = {}
    for number, call in enumerate(lowered.calls):
        key = _signature(call)
        if key is not None and call.results[0] not in returned and not _too_tall(call, lowered, most_rows):
            alike.setdefault(key, []).append(number)
    definitions, calls = list(lowered.definitions), list(lowered.calls)
    kept = loop_operands(lowered)
    for numbers in alike.values():
        if len(numbers) >= _FEWEST and all(_movable(calls[n], definitions, references) for n in numbers):
            _hoist(numbers, definitions, calls, kept)
    return dataclasses.replace(lowered, definitions=tuple(definitions), calls=tuple(calls), users=users_of(definitions))


def _too_tall(call: Call, lowered: Lowered, most_rows: int | None) -> bool:
    result = lowered.definitions[call.results[0] or 0]
    return most_rows is not None and result.dtype == "float32" and result.shape[0] > most_rows


def _signature(call: Call) -> tuple[object, ...] | None:
    """Return what calls must have in common to become one; None for a call that is no such product."""
    name = str(call.target)
    if name not in _FACTORS or call.kwargs or len(call.args) != len(_FACTORS[name]) + (name == "aten.addmm.default"):
        return None
    left, right = (call.args[k] for k in _FACTORS[name])
    others = [item for item in call.args if item is not left]
    if name == "aten.addmm.default" and len(call.args[0].shape) != 1:
        return None
    if right.source == left.source:
        return None
    return name, left.source, left.shape, left.strides, tuple(others)


def _movable(call: Call, definitions: Sequence[Definition], references: dict[int, list[Reference]]) -> bool:
    result = definitions[call.results[0] or 0]
    return all(relocatable(reference, result) for reference in references.get(result.index, ()))


def _hoist(numbers: list[int], definitions: list[Definition], calls: list[Call], kept: Set[int]) -> None:
    """Make the calls one, if their left factors are rows of one window. kept: definitions that keep their strides."""
    first = calls[numbers[0]]
    position = _FACTORS[str(first.target)][0]
    rows = _rows([calls[number].args[position] for number in numbers])
    if rows is None:
        return
    result = definitions[first.results[0] or 0]
    shape = (rows.window.shape[0], result.shape[1])
    if shape[0] * shape[1] > _MOST_ELEMENTS:
        return
    if rows.row_step > 1 and any(calls[number].results[0] in kept for number in numbers):
        return
    index, number = len(definitions), len(calls)
    whole = dataclasses.replace(result, index=index, shape=shape, strides=dense_strides(shape), number=number)
    definitions.append(whole)
    slices = []
    for old, start in zip(numbers, rows.firsts, strict=True):
        part = definitions[calls[old].results[0] or 0]
        place = (index, start * shape[1], (rows.row_step * shape[1], 1))
        definitions[part.index] = dataclasses.replace(part, number=number, place=place)
        slices.append(part.index)
        calls[old] = dataclasses.replace(calls[old], args=(), results=())
    args = tuple(rows.window if k == position else item for k, item in enumerate(first.args))
    calls.append(dataclasses.replace(first, args=args, results=(index,), slices=tuple(slices)))


def _rows(windows: Sequence[Reference]) -> _Rows | None:
    """Return the windows as rows of one: consecutive rows of each, or interleaved ones, a constant step apart."""
    rows, width = windows[0].shape
    row_stride, inner = windows[0].strides
    offsets = sorted({window.offset for window in windows})
    count = len(offsets)
    steps = {after - before for before, after in pairwise(offsets)}
    if len(steps) != 1 or count < _FEWEST:
        return None
    step = steps.pop()
    order = {offset: k for k, offset in enumerate(offsets)}
    if rows == 1 or row_stride == count * step:
        window = Reference(windows[0].source, offsets[0], (rows * count, width), (step, inner))
        return _Rows(window, count, tuple(order[item.offset] for item in windows))
    if step == rows * row_stride:
        window = Reference(windows[0].source, offsets[0], (rows * count, width), (row_stride, inner))
        return _Rows(window, 1, tuple(rows * order[item.offset] for item in windows))
    return None
