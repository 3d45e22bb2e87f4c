"""Rewrites of a region into one that computes the same with fewer and better ordered loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from kernels.compiler.ir import Access, Region, Store, Value


def simplify(region: Region) -> Region:
    """Return the region without dead or repeated values and unit axes, axes ordered for memory and collapsed."""
    for rewrite in (drop_unit_axes, remove_repeated_values, remove_dead_values, order_axes, collapse_axes):
        region = rewrite(region)
    return region


def accesses(region: Region) -> Iterator[Access]:
    """Yield every access of the region: loads, then stores."""
    for value in region.values:
        if value.access is not None:
            yield value.access
    for store in region.stores:
        yield store.access


def remove_repeated_values(region: Region) -> Region:
    """Return the region with each value computed once."""
    seen: dict[str, int] = {}
    position: list[int] = []
    values: list[Value] = []
    for value in region.values:
        renamed = replace(value, operands=tuple(position[k] for k in value.operands))
        # repr, not equality: 0.0 == -0.0 and True == 1
        key = repr(renamed)
        if key not in seen:
            seen[key] = len(values)
            values.append(renamed)
        position.append(seen[key])
    stores = tuple(Store(position[store.value], store.access) for store in region.stores)
    return replace(region, values=tuple(values), stores=stores)


def remove_dead_values(region: Region) -> Region:
    """Return the region without values that no store needs."""
    live = {store.value for store in region.stores}
    for position in reversed(range(len(region.values))):
        if position in live:
            live.update(region.values[position].operands)
    renamed = {old: new for new, old in enumerate(sorted(live))}
    values = tuple(
        replace(region.values[old], operands=tuple(renamed[k] for k in region.values[old].operands)) for old in renamed
    )
    stores = tuple(Store(renamed[store.value], store.access) for store in region.stores)
    return replace(region, values=values, stores=stores)


def drop_unit_axes(region: Region) -> Region:
    """Return the region without axes of extent 1 (one is kept where reductions would lose their last axis)."""
    first = len(region.domain) - region.reduced
    kept = [axis for axis, extent in enumerate(region.domain) if extent != 1]
    if region.reduced and not any(axis >= first for axis in kept):
        kept.append(len(region.domain) - 1)
    kept_reduced = sum(axis >= first for axis in kept)
    zero = Value("constant", "int64", constant=0)
    values = tuple(
        zero if value.op == "index" and region.domain[_axis(value)] == 1 else value for value in region.values
    )
    return _with_axes(replace(region, values=values), [(axis,) for axis in kept], kept_reduced)


def order_axes(region: Region) -> Region:
    """Return the region with unit-stride axes innermost and larger strides outermost, stores counting double.

    Axes move only among the outer ones, and among the reduced ones.
    """
    first = len(region.domain) - region.reduced
    weighted = [(access, 1) for access in accesses(region)] + [(store.access, 1) for store in region.stores]

    def rank(axis: int) -> tuple[float, float]:
        unit = sum(weight for access, weight in weighted if abs(access.strides[axis]) == 1)
        far = sum(weight * abs(access.strides[axis]) for access, weight in weighted)
        return (unit, -far)

    order = sorted(range(first), key=rank) + sorted(range(first, len(region.domain)), key=rank)
    return _with_axes(region, [(axis,) for axis in order], region.reduced)


def collapse_axes(region: Region) -> Region:
    """Return the region with each pair of neighbouring axes that every access walks as one made one."""
    indexed = {value.axis for value in region.values if value.op == "index"}
    first = len(region.domain) - region.reduced
    groups: list[tuple[int, ...]] = []
    for axis in range(len(region.domain)):
        joined = groups and axis != first and _contiguous(region, groups[-1][-1], axis)
        if joined and axis not in indexed and groups[-1][-1] not in indexed:
            groups[-1] = (*groups[-1], axis)
        else:
            groups.append((axis,))
    return _with_axes(region, groups, sum(group[0] >= first for group in groups))


def tile_axes(region: Region) -> Region:
    """Return a pointwise region that transposes with both axes split, so that it runs square tile after square tile.

    Walking one operand along memory and another across it would fetch a cache line for each element. Left as it is
    where an extent has no divisor between 8 and 32.
    """
    last = len(region.domain) - 1
    indexed = {value.axis for value in region.values if value.op == "index"}
    crossed = [axis for axis in range(last) if any(_crosses(access, axis) for access in accesses(region))]
    if region.reduced or not crossed or {last, crossed[-1]} & indexed:
        return region
    far = crossed[-1]
    sides = [next((side for side in range(32, 7, -1) if region.domain[k] % side == 0), 0) for k in (far, last)]
    if not all(sides) or region.domain[far] < 64 or region.domain[last] < 64:
        return region
    rest = [axis for axis in range(last) if axis != far]
    tiles = (region.domain[far] // sides[0], region.domain[last] // sides[1], *sides)

    def split(access: Access) -> Access:
        near = (access.strides[far], access.strides[last])
        strides = (near[0] * sides[0], near[1] * sides[1], *near)
        return Access(access.buffer, access.offset, (*(access.strides[axis] for axis in rest), *strides))

    position = {axis: new for new, axis in enumerate(rest)}
    values = tuple(_moved_value(value, split, position) for value in region.values)
    stores = tuple(Store(store.value, split(store.access)) for store in region.stores)
    domain = (*(region.domain[axis] for axis in rest), *tiles)
    return replace(region, domain=domain, values=values, stores=stores)


def _crosses(access: Access, axis: int) -> bool:
    return abs(access.strides[axis]) == 1 and abs(access.strides[-1]) > 16


def _contiguous(region: Region, outer: int, inner: int) -> bool:
    extent = region.domain[inner]
    return all(access.strides[outer] == access.strides[inner] * extent for access in accesses(region))


def _axis(value: Value) -> int:
    assert value.axis is not None
    return value.axis


def _with_axes(region: Region, groups: list[tuple[int, ...]], reduced: int) -> Region:
    """Return the region over new axes, each a group of old ones that has the last one's strides."""
    position = {group[-1]: new for new, group in enumerate(groups)}
    domain = []
    for group in groups:
        extent = 1
        for axis in group:
            extent *= region.domain[axis]
        domain.append(extent)

    def moved(access: Access) -> Access:
        return Access(access.buffer, access.offset, tuple(access.strides[group[-1]] for group in groups))

    values = tuple(_moved_value(value, moved, position) for value in region.values)
    stores = tuple(Store(store.value, moved(store.access)) for store in region.stores)
    return replace(region, domain=tuple(domain), reduced=reduced, values=values, stores=stores)


def _moved_value(value: Value, moved: Callable[[Access], Access], position: dict[int, int]) -> Value:
    if value.access is not None:
        return replace(value, access=moved(value.access))
    if value.op == "index":
        return replace(value, axis=position[_axis(value)])
    return value
