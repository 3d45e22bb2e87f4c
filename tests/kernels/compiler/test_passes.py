import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.compiler.footprint import element_range, is_injective, may_overlap
from kernels.compiler.ir import Access
from kernels.compiler.passes import (
    collapse_axes,
    drop_unit_axes,
    order_axes,
    remove_repeated_values,
    simplify,
    tile_axes,
)
from kernels.compiler.reference import evaluate
from kernels.compiler.verify import verify
from tests.kernels.compiler.regions import Builder, copies, points, random_arrays, random_region


@given(st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_simplified_regions_are_valid_and_store_the_same(seed):
    rng = np.random.default_rng(seed)
    region = random_region(rng)
    verify(region)
    simpler = simplify(region)
    verify(simpler)
    arrays = random_arrays(region, rng)
    before, after = copies(region, arrays, "float64"), copies(region, arrays, "float64")
    evaluate(region, before, exact=True)
    evaluate(simpler, after, exact=True)
    for want, got in zip(before, after, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    assert simplify(simpler) == simpler


def test_contiguous_axes_become_one_and_unit_axes_go():
    b = Builder(4, 1, 5, 6)
    b.output(b.load(b.buffer(120), 30, 7, 6, 1), 30, 30, 6, 1, elements=120)
    assert simplify(b.region()).domain == (120,)
    assert drop_unit_axes(b.region()).domain == (4, 5, 6)


def test_a_broadcast_operand_keeps_its_axis_apart():
    b = Builder(4, 5, 6)
    b.output(b.value("add", b.load(b.buffer(120), 30, 6, 1), b.load(b.buffer(6), 0, 0, 1)), 30, 6, 1, elements=120)
    assert collapse_axes(b.region()).domain == (20, 6)


def test_the_unit_stride_axis_is_walked_innermost():
    b = Builder(4, 5)
    b.output(b.load(b.buffer(20), 1, 4), 1, 4, elements=20)
    assert order_axes(b.region()).domain == (5, 4)


def test_the_last_reduced_axis_of_extent_one_is_kept():
    b = Builder(3, 1, 1, reduced=2)
    b.output(b.value("reduce_sum", b.load(b.buffer(3), 1, 1, 1)), 1, 0, 0, elements=3)
    simpler = drop_unit_axes(b.region())
    assert (simpler.domain, simpler.reduced) == ((3, 1), 1)


@pytest.mark.parametrize(("rows", "columns", "domain"), [(64, 96, (2, 3, 32, 32)), (70, 66, (5, 3, 14, 22))])
def test_a_transposition_runs_in_tiles_and_stores_the_same(rows, columns, domain):
    b = Builder(2, rows, columns)
    x = b.load(b.buffer(2 * rows * columns), rows * columns, 1, rows)
    which = b.value("cast", b.value("index", dtype="int64", axis=0), dtype="float32")
    b.output(b.value("add", x, which), rows * columns, columns, 1, elements=2 * rows * columns)
    tiled = tile_axes(b.region())
    assert tiled.domain == (2, *domain)
    verify(tiled)
    arrays = random_arrays(b.region(), np.random.default_rng(1))
    before, after = copies(b.region(), arrays), copies(b.region(), arrays)
    evaluate(b.region(), before)
    evaluate(tiled, after)
    np.testing.assert_array_equal(before[1], after[1])


def test_extents_without_a_divisor_are_not_tiled():
    b = Builder(67, 96)
    b.output(b.load(b.buffer(67 * 96), 1, 67), 96, 1, elements=67 * 96)
    assert tile_axes(b.region()) == b.region()


def test_zeros_of_both_signs_stay_apart():
    b = Builder(2)
    x = b.load(b.buffer(2), 1)
    b.output(b.value("add", b.value("div", x, b.constant(0.0)), b.value("div", x, b.constant(-0.0))), 1, elements=2)
    assert sum(value.op == "div" for value in remove_repeated_values(b.region()).values) == 2


STRIDES = st.sampled_from([0, 1, -1, 2, 3, 4, 5, 6, 8, 12, -4])


@given(st.lists(st.tuples(st.integers(1, 4), STRIDES, STRIDES), max_size=3), st.integers(-3, 12), st.integers(-3, 12))
@settings(max_examples=400, deadline=None)
def test_footprints_agree_with_counting_the_elements(axes, first_offset, second_offset):
    domain = tuple(extent for extent, _, _ in axes)
    first = Access(0, first_offset, tuple(stride for _, stride, _ in axes))
    second = Access(0, second_offset, tuple(stride for _, _, stride in axes))

    def elements(access):
        return [access.offset + int(np.dot(access.strides, p)) if p else access.offset for p in points(domain)]

    moving = [p for p in points(domain) if all(s or not i for s, i in zip(first.strides, p, strict=True))]
    touched = [first.offset + int(np.dot(first.strides, p)) if p else first.offset for p in moving]
    assert element_range(first, domain) == (min(elements(first)), max(elements(first)))
    assert is_injective(first, domain) == (len(set(touched)) == len(touched))
    assert may_overlap(first, second, domain) == bool(set(elements(first)) & set(elements(second)))
