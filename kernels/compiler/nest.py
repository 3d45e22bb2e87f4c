"""How the loops of a region run: the schedule, the values kept between passes, the share of a thread."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.compiler.ir import ITEM_BYTES, REDUCTIONS, Region, Value
from kernels.compiler.levels import Level, levels, once_a_row
from kernels.compiler.source import roots

EXPENSIVE = (
    "exp", "expm1", "log", "log1p", "log2", "sigmoid", "tanh", "erf", "sin", "cos", "pow", "atan2", "remainder",
)  # fmt: skip
SCRATCH_BYTES = 32 * 1024
"""The most that one value of a row may take on the stack."""
SCRATCH_TOTAL_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class Pass:
    """One walk over a row.

    reductions, stores, kept: what it completes (positions of values, of stores, of values kept for later passes).
    values:                   what it computes, in order; kept values of earlier passes are read instead.
    """

    reductions: tuple[int, ...]
    stores: tuple[int, ...]
    kept: tuple[int, ...]
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Nest:
    """A region with all that printing it needs decided.

    columns: the outer axis that is walked innermost, in tiles (sums over rows of a matrix); None: rows are walked
             one after another.
    brief:   it takes so little that no vectors are computed side by side, which would take longer to compile.
    """

    region: Region
    levels: tuple[Level, ...]
    passes: tuple[Pass, ...]
    columns: int | None
    brief: bool = False


def nest(region: Region) -> Nest:
    """Return the loop nest of a simplified region."""
    found = levels(region)
    columns = _columns(region, found)
    return Nest(region, found, _passes(region, found, keep=columns is None), columns)


def _columns(region: Region, found: tuple[Level, ...]) -> int | None:
    """Return the outer axis to walk innermost if memory runs along it rather than along the reduced axes."""
    first = len(region.domain) - region.reduced
    if not region.reduced or not first or region.domain[first - 1] < 8:
        return None
    last, column = len(region.domain) - 1, first - 1
    along_rows = along_columns = 0
    for value, level in zip(region.values, found, strict=True):
        if value.access is not None and not level.row:
            along_rows += abs(value.access.strides[last]) == 1
            along_columns += abs(value.access.strides[column]) == 1
    return column if along_columns > along_rows else None


def _passes(region: Region, found: tuple[Level, ...], keep: bool) -> tuple[Pass, ...]:
    if not region.reduced:
        return (Pass((), tuple(range(len(region.stores))), (), tuple(range(len(region.values)))),)
    reductions, stores = _sinks(region, found)
    count = max([*reductions, *stores], default=0) + 1
    kept_in: dict[int, int] = {}
    if keep:
        kept_in = _kept(region, found, reductions, stores, count)
    passes = []
    for number in range(count):
        kept = tuple(value for value, made in kept_in.items() if made == number)
        available = {value for value, made in kept_in.items() if made < number}
        sinks = [region.values[k].operands[0] for k in reductions.get(number, ())]
        sinks += [region.stores[k].value for k in stores.get(number, ())] + list(kept)
        values = _cone(region, found, sinks, available)
        passes.append(Pass(tuple(reductions.get(number, ())), tuple(stores.get(number, ())), kept, values))
    return tuple(passes)


def _sinks(region: Region, found: tuple[Level, ...]) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Return the reductions and the element-level stores of each pass."""
    reductions: dict[int, list[int]] = {}
    for position, value in enumerate(region.values):
        if value.op in REDUCTIONS:
            reductions.setdefault(found[position].ready - 1, []).append(position)
    inner = [found[store.value].ready for store in region.stores if not once_a_row(region, found, store)]
    last = max([*reductions, *inner], default=0)
    root = roots(region)
    loaded = {root[value.access.buffer] for value in region.values if value.access is not None}
    stores: dict[int, list[int]] = {}
    for position, store in enumerate(region.stores):
        if not once_a_row(region, found, store):
            # what is updated in place is stored last: every pass before may read it again
            in_place = root[store.access.buffer] in loaded
            stores.setdefault(last if in_place else found[store.value].ready, []).append(position)
    return reductions, stores


def _kept(
    region: Region,
    found: tuple[Level, ...],
    reductions: dict[int, list[int]],
    stores: dict[int, list[int]],
    count: int,
) -> dict[int, int]:
    """Return the values that are dear enough to be kept for a later pass, and the pass that makes each."""
    first = len(region.domain) - region.reduced
    points = 1
    for extent in region.domain[first:]:
        points *= extent
    kept: dict[int, int] = {}
    total = 0
    for number in range(1, count):
        sinks = [region.values[k].operands[0] for k in reductions.get(number, ())]
        sinks += [region.stores[k].value for k in stores.get(number, ())]
        for value in _boundary(region, found, sinks, number):
            size = points * ITEM_BYTES[region.values[value].dtype]
            dear = _cost(region, found, value, set(kept)) > 3.0
            if value not in kept and dear and size <= SCRATCH_BYTES and total + size <= SCRATCH_TOTAL_BYTES:
                kept[value] = found[value].ready
                total += size
    return kept


def _boundary(region: Region, found: tuple[Level, ...], sinks: list[int], number: int) -> list[int]:
    """Return the element-level values of earlier passes that pass `number` starts from."""
    seen: set[int] = set()
    boundary: list[int] = []
    pending = list(sinks)
    while pending:
        value = pending.pop()
        if value in seen or found[value].row:
            continue
        seen.add(value)
        if found[value].ready < number:
            boundary.append(value)
        else:
            pending.extend(region.values[value].operands)
    return boundary


def _cost(region: Region, found: tuple[Level, ...], value: int, kept: set[int]) -> float:
    """Return about how many operations recomputing the value takes, a load, or reading a kept value, counting one."""
    cost = 0.0
    for position in _cone(region, found, [value], kept - {value}):
        op = "load" if position in kept else region.values[position].op
        cost += 8.0 if op in EXPENSIVE else 1.0 if op == "load" else 2.0 if op in ("div", "sqrt", "rsqrt") else 0.5
    return cost


def _cone(region: Region, found: tuple[Level, ...], sinks: list[int], available: set[int]) -> tuple[int, ...]:
    """Return the element-level values that the sinks need, in order; `available` ones without their operands."""
    needed: set[int] = set()
    pending = list(sinks)
    while pending:
        value = pending.pop()
        if value in needed or found[value].row:
            continue
        needed.add(value)
        if value not in available:
            pending.extend(region.values[value].operands)
    return tuple(sorted(needed))


def work(region: Region) -> float:
    """Return about how many elementary operations one run takes: what decides whether threads are worth starting."""
    points = 1
    for extent in region.domain:
        points *= extent

    def weight(value: Value) -> float:
        return 8.0 if value.op in EXPENSIVE else 0.0 if value.op in ("constant", "index") else 1.0

    return points * (len(region.stores) + sum(weight(value) for value in region.values))
