"""Where each value of a region lives: element or row level, the axes it varies along, the pass that computes it."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.compiler.ir import REDUCTIONS, Region, Store


@dataclass(frozen=True, slots=True)
class Level:
    """The place of one value.

    axes:    the domain axes along which it varies.
    row:     one value for each point of the outer axes.
    ready:   element level: the pass over the row in which it can be computed first; row level: how many passes must
             have ended before.
    """

    axes: frozenset[int]
    row: bool
    ready: int


def levels(region: Region) -> tuple[Level, ...]:
    """Return the level of each value. In a pointwise region every value is at element level, in pass 0."""
    first = len(region.domain) - region.reduced
    found: list[Level] = []
    for value in region.values:
        operands = [found[k] for k in value.operands]
        axes = frozenset[int]().union(*(operand.axes for operand in operands))
        ready = max((operand.ready for operand in operands), default=0)
        if value.access is not None:
            axes = frozenset(axis for axis, stride in enumerate(value.access.strides) if stride)
        elif value.op == "index" and value.axis is not None:
            axes = frozenset((value.axis,))
        elif value.op in REDUCTIONS:
            axes = frozenset(axis for axis in axes if axis < first)
            ready += 1
        row = region.reduced > 0 and all(axis < first for axis in axes) and _row_operands(value.op, operands)
        found.append(Level(axes, row, ready))
    return tuple(found)


def once_a_row(region: Region, found: tuple[Level, ...], store: Store) -> bool:
    """Return whether a store is carried out once for each row rather than for each element."""
    return found[store.value].row and not any(store.access.strides[len(region.domain) - region.reduced :])


def _row_operands(op: str, operands: list[Level]) -> bool:
    return op in REDUCTIONS or all(operand.row for operand in operands)
