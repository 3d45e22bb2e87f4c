"""What a CUDA row kernel does in which walk over a row, and how much it must keep between walks."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.compiler.ir import ITEM_BYTES, REDUCTIONS, Region
from kernels.compiler.levels import levels, once_a_row
from kernels.compiler.print_cuda_online import online
from kernels.compiler.print_cuda_reduce import Reduction, simple
from kernels.compiler.source import roots


@dataclass(frozen=True, slots=True)
class Walk:
    """One walk over the elements of a row.

    values:     the element-level values that it computes, in order.
    reductions: what it adds up.
    stores:     the element-level stores that it carries out.
    after:      the row-level values that follow from it, in order.
    """

    values: tuple[int, ...]
    reductions: tuple[Reduction, ...]
    stores: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """All that a kernel does for one row.

    before:     row-level values that need no walk; `row` holds all row-level values.
    row_stores: stores carried out once a row, at its end.
    kept:       the most registers that an element's values take while they wait for a later walk.
    """

    before: tuple[int, ...]
    walks: tuple[Walk, ...]
    row_stores: tuple[int, ...]
    row: frozenset[int]
    kept: int


def schedule(region: Region, resident: bool, pairs: dict[int, int] | None = None) -> Schedule:
    """Return what happens when, for a simplified region with reductions.

    resident: a row's values stay in registers, each is computed once; else every walk computes anew what it needs.
    pairs:    later reductions that share the walk of an earlier one, as online_pairs gives them.
    """
    found = levels(region)
    row = frozenset(k for k, level in enumerate(found) if level.row)
    pairs = pairs or {}
    ready = _ready(region, pairs)
    row_stores = tuple(k for k, store in enumerate(region.stores) if once_a_row(region, found, store))
    updated = _updated(region)
    stores = _stores(region, ready, row_stores, frozenset() if resident else updated)
    count = max([*stores.values(), *(ready[k] - 1 for k in row if region.values[k].op in REDUCTIONS)], default=-1) + 1
    walks: list[Walk] = []
    computed: set[int] = set()
    for number in range(count):
        reductions = _reductions(region, ready, pairs, number)
        stored = tuple(k for k, walk in stores.items() if walk == number)
        sinks = [reduction.argument for reduction in reductions] + [region.stores[k].value for k in stored]
        if resident and number == 0:
            sinks += updated  # read before anything is stored there
        values = _cone(region, row, sinks, computed if resident else set())
        computed.update(values)
        after = (k for k in sorted(row) if ready[k] == number + 1 and region.values[k].op not in REDUCTIONS)
        walks.append(Walk(values, reductions, stored, tuple(after)))
    before = tuple(k for k in sorted(row) if ready[k] == 0)
    return Schedule(before, tuple(walks), row_stores, row, _kept(region, walks) if resident else 0)


def _ready(region: Region, pairs: dict[int, int]) -> list[int]:
    """Return for each value how many walks must have ended before it can be computed (of a reduction: is complete)."""
    ready: list[int] = []
    for position, value in enumerate(region.values):
        if position in pairs:
            ready.append(ready[pairs[position]])
        else:
            ready.append(max((ready[k] for k in value.operands), default=0) + (value.op in REDUCTIONS))
    return ready


def _updated(region: Region) -> frozenset[int]:
    """Return the loads of memory that is stored to as well."""
    root = roots(region)
    written = {root[store.access.buffer] for store in region.stores}
    loads = ((k, value.access) for k, value in enumerate(region.values))
    return frozenset(k for k, access in loads if access is not None and root[access.buffer] in written)


def _stores(
    region: Region, ready: list[int], row_stores: tuple[int, ...], last_loads: frozenset[int]
) -> dict[int, int]:
    """Return the walk of each element-level store; what `last_loads` read is stored last: every walk reads it again."""
    inner = [k for k in range(len(region.stores)) if k not in row_stores]
    reductions = [ready[k] - 1 for k, value in enumerate(region.values) if value.op in REDUCTIONS]
    last = max([*reductions, *(ready[region.stores[k].value] for k in inner)], default=0)
    root = roots(region)
    accesses = (region.values[k].access for k in last_loads)
    read = {root[access.buffer] for access in accesses if access is not None}
    in_place = {k for k in inner if root[region.stores[k].access.buffer] in read}
    return {k: last if k in in_place else ready[region.stores[k].value] for k in inner}


def _reductions(region: Region, ready: list[int], pairs: dict[int, int], number: int) -> tuple[Reduction, ...]:
    found: list[Reduction] = []
    second = {first: later for later, first in pairs.items()}
    for position, value in enumerate(region.values):
        if value.op not in REDUCTIONS or ready[position] != number + 1 or position in pairs:
            continue
        if position in second:
            found.append(online(region, position, second[position]))
        else:
            found.append(simple(position, value.op, value.dtype, value.operands[0]))
    return tuple(found)


def _cone(region: Region, row: frozenset[int], sinks: list[int], computed: set[int]) -> tuple[int, ...]:
    """Return the element-level values that the sinks need and that are not computed yet, in order."""
    needed: set[int] = set()
    pending = list(sinks)
    while pending:
        value = pending.pop()
        if value not in needed and value not in row and value not in computed:
            needed.add(value)
            pending.extend(region.values[value].operands)
    return tuple(sorted(needed))


def _kept(region: Region, walks: list[Walk]) -> int:
    most = 0
    for number in range(1, len(walks)):
        made = {k for walk in walks[:number] for k in walk.values}
        used: set[int] = set()
        for walk in walks[number:]:
            used.update(k for value in walk.values for k in region.values[value].operands)
            used.update(reduction.argument for reduction in walk.reductions)
            used.update(region.stores[k].value for k in walk.stores)
        most = max(most, sum(max(1, ITEM_BYTES[region.values[k].dtype] // 4) for k in made & used))
    return most
