"""Where the value that a carried slot has before the first trip lies: its layout may differ from the slot's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optimizers.fusion.graph import Definition, Map, Scalar, invert, linear, span
from optimizers.fusion.loops_body import NotALoopError
from optimizers.fusion.memory import identity
from optimizers.fusion.reroll_classify import Before


@dataclass(frozen=True, slots=True)
class Initial:
    """The slot's element at index i is element `offset + sum(strides * i)` of definition `source`.

    constant: the number that every element is, where it is one; offset and strides then don't matter.
    """

    source: int
    offset: int
    strides: tuple[int, ...]
    constant: Scalar | None = None


def initial_value(uses: Sequence[Before], slot: Definition, outer: Sequence[Definition]) -> Initial:
    """Return the initial value of a carried slot, that every use of it agrees on. Raises NotALoopError if none is."""
    sources = {use.initial.source for use in uses}
    if len(sources) != 1:
        raise NotALoopError("a carried value that begins as several tensors")
    first = outer[sources.pop()]
    if first.dtype != slot.dtype:
        raise NotALoopError(f"a carried value of {slot.dtype} that begins as {first.dtype}")
    operand = first.operands[0] if first.kind == "compute" and first.op == "constant" else None
    if isinstance(operand, Scalar):
        return Initial(first.index, 0, slot.strides, operand)
    found = _alike(uses, slot) or _laid_out(uses, slot)
    begin, end = found[0], found[0] + span(slot.shape, found[1])
    if begin < 0 or end > span(first.shape, first.strides):
        raise NotALoopError("a carried value that begins as part of another tensor")
    return Initial(first.index, *found)


Layout = tuple[int, tuple[int, ...]]


def _alike(uses: Sequence[Before], slot: Definition) -> Layout | None:
    """Return the slot's own strides where every use steps through the initial value as through the slot."""
    offsets = set()
    for use in uses:
        pairs = zip(use.initial.strides, use.window.strides, use.window.shape, strict=True)
        if any(one != other for one, other, extent in pairs if extent > 1):
            return None
        offsets.add(use.initial.offset - use.window.offset)
    if len(offsets) != 1:
        raise NotALoopError("a carried value that begins as several parts of a tensor")
    return offsets.pop(), slot.strides


def _laid_out(uses: Sequence[Before], slot: Definition) -> Layout:
    """Return offset and strides that give every use, axis by axis of the slot, what it reads of the initial value."""
    points = [_point(use, slot) for use in uses]
    strides: dict[int, int] = {axis: 0 for axis, extent in enumerate(slot.shape) if extent == 1}
    for use, point in zip(uses, points, strict=True):
        for axis, (_, row) in enumerate(point):
            steps = [k for k, coefficient in enumerate(row) if coefficient]
            if len(steps) == 1 and row[steps[0]] == 1:
                strides.setdefault(axis, use.initial.strides[steps[0]])
    if len(strides) < len(slot.shape):
        raise NotALoopError("a carried value of which only a part has a beginning")
    layout = tuple(strides[axis] for axis in range(len(slot.shape)))
    offsets = {_offset(use, point, layout) for use, point in zip(uses, points, strict=True)}
    if len(offsets) != 1:
        raise NotALoopError("a carried value that begins in several layouts")
    return offsets.pop(), layout


def _point(use: Before, slot: Definition) -> Map:
    """Return the index into the slot at each point of the window that a use reads."""
    shape = use.window.shape
    point = invert(linear(use.window, identity(len(shape)), shape), slot, shape)
    if point is None:
        raise NotALoopError("a carried value that begins in another layout, and is reshaped")
    return point


def _offset(use: Before, point: Map, strides: tuple[int, ...]) -> int:
    """Return where the slot's first element lies in the initial value, if the strides give what the use reads there."""
    for axis, extent in enumerate(use.window.shape):
        step = sum(stride * row[axis] for stride, (_, row) in zip(strides, point, strict=True))
        if extent > 1 and step != use.initial.strides[axis]:
            raise NotALoopError("a carried value that begins in several layouts")
    return use.initial.offset - sum(stride * digit for stride, (digit, _) in zip(strides, point, strict=True))
