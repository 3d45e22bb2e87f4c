"""Random regions with reductions, and random ways to spread their rows over threads."""

from __future__ import annotations

import random

from kernels.compiler.ir import Region
from kernels.compiler.print_cuda_plan import RowPlan, can_be_wide
from kernels.compiler.print_cuda_unit import row_length
from tests.kernels.compiler.regions import Builder

EXTENTS = (1, 2, 3, 4, 5, 8, 33, 36)
NUMBERS = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod")


def random_rows(choose: random.Random) -> Region:
    """Return a region of one or two reduced axes, its operands permuted, padded, broadcast and offset at random."""
    reduced = choose.choice((1, 1, 2))
    outer = tuple(choose.choice((1, 2, 3, 5)) for _ in range(choose.choice((0, 1, 1, 2))))
    b = Builder(*outer, *(choose.choice(EXTENTS) for _ in range(reduced)), reduced=reduced)
    in_place = _operand(choose, b, written=True, broadcast=0.0)
    loaded = [in_place, *(_operand(choose, b, broadcast=0.3) for _ in range(2))]
    flag = b.value("lt", choose.choice(loaded), b.constant(0.3), dtype="bool")
    index = b.value("cast", b.value("index", dtype="int64", axis=choose.randrange(len(b.domain))), dtype="int32")
    pool = [*loaded, b.value("mul", b.value("cast", index, dtype="float32"), b.constant(0.1))]
    for _ in range(choose.randint(2, 6)):
        pool.append(_value(choose, b, pool, flag))
    if choose.random() < 0.5:
        _store_in_place(b, choose.choice(pool[2:]), in_place)
    _store(choose, b, pool[-1])
    _store(choose, b, b.value(choose.choice(("reduce_any", "reduce_all")), flag))
    _store(choose, b, b.value(choose.choice(NUMBERS), index))
    return b.region()


def random_plan(choose: random.Random, region: Region) -> RowPlan:
    """Return a plan that a simplified region allows, a row of at most 24 elements a thread if it stays in registers."""
    across = choose.choice((0, 0, 0, 8, 32))
    lanes = choose.choice((1, 4)) if can_be_wide(region) and not across else 1
    team = choose.choice((1, 2, 4)) * 32 // across if across else choose.choice((1, 2, 4, 8, 16, 32, 64, 128))
    fits = row_length(region) <= 24 * team
    return RowPlan(team, lanes, fits and choose.random() < 0.6, across)


def _strides(choose: random.Random, b: Builder, axes: list[int]) -> tuple[int, ...]:
    """Return strides along the axes, the last one innermost unless shuffled, rows perhaps padded."""
    if choose.random() < 0.3:
        choose.shuffle(axes)
    strides, step = [0] * len(b.domain), choose.choice((1, 1, 1, 2))
    for axis in reversed(axes):
        strides[axis] = step
        step *= b.domain[axis] + choose.choice((0, 0, 4, 1))
    return tuple(strides)


def _elements(b: Builder, strides: tuple[int, ...], offset: int) -> int:
    return offset + 1 + sum((extent - 1) * step for extent, step in zip(b.domain, strides, strict=True))


def _operand(choose: random.Random, b: Builder, broadcast: float, written: bool = False) -> int:
    strides = _strides(choose, b, [axis for axis in range(len(b.domain)) if choose.random() >= broadcast])
    offset = choose.choice((0, 0, 4, 1))
    return b.load(b.buffer(_elements(b, strides, offset), written=written), *strides, offset=offset)


def _value(choose: random.Random, b: Builder, pool: list[int], flag: int) -> int:
    first, second = choose.choice(pool), choose.choice(pool)
    kind = choose.random()
    if kind < 0.35:
        # bounded, so that no sum of products loses all its digits
        return b.value(choose.choice(NUMBERS[:3]), b.value("tanh", first))
    if kind < 0.5:
        power = b.value("exp", b.value("sub", first, b.value("reduce_max", first)))
        return b.value("div", power, b.value("reduce_sum", power))
    if kind < 0.6:
        return b.value("where", flag, first, second)
    if kind < 0.7:
        share = b.constant(1.0 / row_length(b.region()))
        centred = b.value("sub", first, b.value("mul", b.value("reduce_sum", first), share))
        return b.value("mul", b.value("reduce_sum", b.value("mul", centred, centred)), share)
    if kind < 0.8:
        return b.value("mul", b.value("tanh", first), b.constant(choose.choice((0.5, -1.25))))
    return b.value(choose.choice(("add", "sub", "maximum", "minimum")), first, b.value("tanh", second))


def _store(choose: random.Random, b: Builder, value: int) -> None:
    from kernels.compiler.levels import levels

    found = levels(b.region())[value]
    outer = len(b.domain) - b.reduced
    # a row-level value is stored once a row, or fills the row
    last = outer if found.row and choose.random() < 0.7 else len(b.domain)
    strides, offset = _strides(choose, b, list(range(last))), choose.choice((0, 4, 1))
    buffer = b.buffer(_elements(b, strides, offset), b.values[value].dtype, written=True)
    b.store(value, buffer, *strides, offset=offset)


def _store_in_place(b: Builder, value: int, loaded: int) -> None:
    access = b.values[loaded].access
    assert access is not None
    first = b.buffers[access.buffer]
    again = b.buffer(first.elements, written=True, same_as=access.buffer)
    b.store(value, again, *access.strides, offset=access.offset)
