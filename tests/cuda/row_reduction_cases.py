"""The row reductions' cases. A case's size is the length of its rows; small ones are for the simulator.

A small size is given to teams as they would be on long rows: of two warps, or reading rows again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from kernels import row_reduction
from kernels.compiler.ir import FLOATING, Region
from kernels.compiler.passes import simplify
from kernels.compiler.print_cuda_plan import RowPlan, can_be_wide, row_plans
from kernels.compiler.print_cuda_rows import print_plan
from kernels.compiler.print_cuda_unit import row_length
from tests.cuda.case import SPECIALS, Bounds, BufferUse, Case, Problem
from tests.kernels.compiler.regions import Builder

SMALL = 200
SMALL_BLOCK = 64
SIZES = (5, 33, 132, 40)


def problem(region: Region, plans: dict[str, RowPlan], block: int) -> Problem:
    """Return a region as a test problem, its rows spread over threads by the plans, in blocks of one size."""
    loaded = {value.access.buffer for value in region.values if value.access is not None}
    first = BufferUse(region.buffers[0].name, region.buffers[0].dtype, region.buffers[0].elements, True)
    if first.dtype in FLOATING:
        first = replace(first, fill=lambda random: _with_specials(random, first.elements))
    others = [
        BufferUse(b.name, b.dtype, b.elements, k in loaded, b.same_as, specials=False)
        for k, b in enumerate(region.buffers)
    ]
    buffers = (first, *others[1:])
    sources = {form: print_plan(simplify(region), plan) for form, plan in plans.items()}
    return Problem(
        buffers,
        sources,
        lambda arrays: row_reduction.reference(region, arrays),
        integers=(-50, 60),
        grids=((1, block), (3, block), (2, block)),
        device_grid=(7, block),
    )


def _with_specials(random: np.random.Generator, elements: int) -> np.ndarray:
    """Return random numbers, up to three specials among the last third: each would leave its row little but NaN."""
    numbers = 3 * random.standard_normal(elements)
    places = elements - 1 - random.integers(0, max(1, elements // 3), random.integers(0, 4))
    numbers[places] = random.choice(SPECIALS, places.size)
    return numbers


def small_plans(region: Region, like: dict[str, RowPlan]) -> dict[str, RowPlan]:
    """Return plans of the kinds of `like` for short rows, in blocks of two warps."""
    region = simplify(region)
    plans = {}
    for form, plan in like.items():
        if plan.lanes > 1 and not can_be_wide(region):
            continue
        units = row_length(region) // plan.lanes
        team = (
            SMALL_BLOCK // plan.across
            if plan.across
            else SMALL_BLOCK
            if plan.team > 32
            else min(32, 1 << (units - 1).bit_length())
        )
        plans[form] = RowPlan(team, plan.lanes, plan.resident, plan.across)
    return plans


def softmax(length: int, rows: int) -> Region:
    """Softmax over rows."""
    b = Builder(rows, length, reduced=1)
    b.output(_softmax(b, b.load(b.buffer(rows * length), length, 1)), length, 1, elements=rows * length)
    return b.region()


def masked_softmax(length: int, rows: int) -> Region:
    """Softmax of x / 8 where the mask of the row's column says so, over two heads that share it."""
    b = Builder(2, rows, length, reduced=1)
    x = b.load(b.buffer(2 * rows * length), rows * length, length, 1)
    mask = b.load(b.buffer(rows * length, "bool"), 0, length, 1)
    scaled = b.value("mul", x, b.constant(0.125))
    kept = b.value("where", mask, scaled, b.constant(float("-inf")))
    b.output(_softmax(b, kept), rows * length, length, 1, elements=2 * rows * length)
    return b.region()


def log_softmax(length: int, rows: int) -> Region:
    """x - maximum - log(sum of exp), and the maximum of each row as a second result, in place."""
    b = Builder(rows, length, reduced=1)
    memory = b.buffer(rows * length, written=True)
    x = b.load(memory, length, 1)
    maximum = b.value("reduce_max", x)
    shifted = b.value("sub", x, maximum)
    total = b.value("log", b.value("reduce_sum", b.value("exp", shifted)))
    again = b.buffer(rows * length, written=True, same_as=memory)
    b.store(b.value("sub", shifted, total), again, length, 1)
    b.output(maximum, 1, 0, elements=rows)
    return b.region()


def layer_norm(length: int, rows: int) -> Region:
    """Layernorm with weight and bias, and each row's mean and inverse deviation, as a backward pass needs them."""
    b = Builder(rows, length, reduced=1)
    mean, deviation, scaled = _normalised(b, b.load(b.buffer(rows * length), length, 1), length)
    b.output(_affine(b, scaled, length), length, 1, elements=rows * length)
    b.output(mean, 1, 0, elements=rows)
    b.output(deviation, 1, 0, elements=rows)
    return b.region()


def residual_layer_norm(length: int, rows: int) -> Region:
    """layernorm(x + bias + residual), the sum stored too, over x itself."""
    b = Builder(rows, length, reduced=1)
    memory = b.buffer(rows * length, written=True)
    x, residual = b.load(memory, length, 1), b.load(b.buffer(rows * length), length, 1)
    total = b.value("add", b.value("add", x, b.load(b.buffer(length), 0, 1)), residual)
    b.store(total, b.buffer(rows * length, written=True, same_as=memory), length, 1)
    scaled = _normalised(b, total, length)[2]
    b.output(_affine(b, scaled, length), length, 1, elements=rows * length)
    return b.region()


def rms_norm(length: int, rows: int) -> Region:
    """RMSNorm of rows that lie padded, four elements apart."""
    b = Builder(rows, length, reduced=1)
    pitch = length + 4
    x = b.load(b.buffer(rows * pitch), pitch, 1)
    mean = b.value("mul", b.value("reduce_sum", b.value("mul", x, x)), b.constant(1.0 / length))
    scaled = b.value("mul", x, b.value("rsqrt", b.value("add", mean, b.constant(1e-6))))
    b.output(b.value("mul", scaled, b.load(b.buffer(length), 0, 1)), length, 1, elements=rows * length)
    return b.region()


def row_maximum(length: int, rows: int) -> Region:
    """The maximum and the minimum of each row, NaN if there is one in it."""
    b = Builder(rows, length, reduced=1)
    x = b.load(b.buffer(rows * length), length, 1)
    b.output(b.value("reduce_max", x), 1, 0, elements=rows)
    b.output(b.value("reduce_min", x), 1, 0, elements=rows)
    return b.region()


def middle_mean(length: int, rows: int) -> Region:
    """The mean and the variance over the middle one of three axes: memory runs across the rows."""
    b = Builder(rows, 33, length, reduced=1)
    x = b.load(b.buffer(rows * length * 33), length * 33, 1, 33)
    share = b.constant(1.0 / length)
    mean = b.value("mul", b.value("reduce_sum", x), share)
    centred = b.value("sub", x, mean)
    b.output(mean, 33, 1, 0, elements=rows * 33)
    variance = b.value("mul", b.value("reduce_sum", b.value("mul", centred, centred)), share)
    b.output(variance, 33, 1, 0, elements=rows * 33)
    return b.region()


def counts(length: int, rows: int) -> Region:
    """Sums, products and tests of integers and bools, over two axes."""
    b = Builder(rows, 4, length, reduced=2)
    flag = b.load(b.buffer(rows * length * 4, "bool"), 4 * length, length, 1)
    number = b.load(b.buffer(rows * length * 4, "int32"), 4 * length, length, 1)
    wide = b.value("cast", number, dtype="int64")
    for value in (
        b.value("reduce_sum", b.value("cast", flag, dtype="int64")),
        b.value("reduce_sum", b.value("mul", wide, b.constant(2**40, "int64"))),
        b.value("reduce_prod", number),
        b.value("reduce_max", number),
        b.value("reduce_any", b.value("gt", number, b.constant(58, "int32"), dtype="bool")),
        b.value("reduce_all", flag),
    ):
        b.output(value, 1, 0, 0, elements=rows)
    return b.region()


def double_sum(length: int, rows: int) -> Region:
    """The only case that may compute in float64: its tensors are."""
    b = Builder(rows, length, reduced=1)
    x = b.load(b.buffer(rows * length, "float64"), length, 1)
    b.output(b.value("sub", x, b.value("reduce_sum", x)), length, 1, elements=rows * length)
    return b.region()


def _softmax(b: Builder, x: int) -> int:
    power = b.value("exp", b.value("sub", x, b.value("reduce_max", x)))
    return b.value("div", power, b.value("reduce_sum", power))


def _normalised(b: Builder, x: int, length: int) -> tuple[int, int, int]:
    """Return mean, inverse deviation and (x - mean) * inverse deviation."""
    share = b.constant(1.0 / length)
    mean = b.value("mul", b.value("reduce_sum", x), share)
    centred = b.value("sub", x, mean)
    variance = b.value("mul", b.value("reduce_sum", b.value("mul", centred, centred)), share)
    deviation = b.value("rsqrt", b.value("add", variance, b.constant(1e-5)))
    return mean, deviation, b.value("mul", centred, deviation)


def _affine(b: Builder, x: int, length: int) -> int:
    weighted = b.value("mul", x, b.load(b.buffer(length), 0, 1))
    return b.value("add", weighted, b.load(b.buffer(length), 0, 1))


def _case(
    build: Callable[[int, int], Region],
    device_size: int,
    rows: int,
    tolerance: float = 4e-6,
    sizes: tuple[int, ...] = SIZES,
    **bounds: Bounds,
) -> Case:
    """Return a case whose forms are the plans for the device's size, and their like on short rows."""
    plans = row_plans(simplify(build(device_size, rows)))
    plans = {form: plans[form] for form in bounds}

    def of_size(size: int) -> Problem:
        if size >= SMALL:
            return problem(build(size, rows), plans, next(iter(plans.values())).block)
        region = build(size, 3)
        return problem(region, small_plans(region, plans), SMALL_BLOCK)

    name = f"row-reduction-{build.__name__.replace('_', '-')}-{device_size}"
    return Case(name, of_size, sizes, device_size, bounds, tolerance)


def rows_bounds(registers: int, loads: int = 0, stores: int = 0, float64: bool = False) -> Bounds:
    """Return bounds on accesses that a kernel has so many of, whatever it does besides."""
    return Bounds(registers, loads, stores, float64, proportional=False)


MANY = 4096
CASES = (
    _case(softmax, 1000, 300, wide=rows_bounds(40, 2, 2)),
    _case(softmax, 50257, 128, sizes=(1, 132, 33), scalar=rows_bounds(48)),
    _case(masked_softmax, 4096, MANY, sizes=(4, 132, 40), wide=rows_bounds(72, 8, 8)),
    _case(log_softmax, 50256, 100, sizes=(4, 132, 40), wide=rows_bounds(48, 2, 1)),
    _case(layer_norm, 768, MANY, 2e-5, wide=rows_bounds(64, 18, 6)),
    _case(residual_layer_norm, 12288, MANY, 2e-5, wide=rows_bounds(72, 30, 12)),
    _case(rms_norm, 128, MANY, 2e-5, wide=rows_bounds(40, 2, 1)),
    _case(layer_norm, 40960, 64, 2e-5, sizes=(4, 132, 40), wide=rows_bounds(64, 4, 1)),
    _case(row_maximum, 1001, MANY, sizes=(1, 5, 31, 33), scalar=rows_bounds(40)),
    _case(middle_mean, 512, 64, 2e-5, sizes=(1, 3, 7, 12), scalar=rows_bounds(48)),
    _case(counts, 250, 100, sizes=(1, 8, 5), scalar=rows_bounds(48)),
    _case(double_sum, 1001, 100, 1e-13, sizes=(5, 33, 40), scalar=rows_bounds(64, float64=True)),
)
