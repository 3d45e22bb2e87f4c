"""Accesses of two domains share an element where some pair of their points does."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.compiler.footprint import may_share
from kernels.compiler.ir import Access

AXES = st.lists(st.tuples(st.integers(1, 4), st.integers(-3, 7)), min_size=0, max_size=3)


def elements(access: Access, domain: tuple[int, ...]) -> set[int]:
    points = itertools.product(*(range(extent) for extent in domain))
    return {access.offset + sum(s * i for s, i in zip(access.strides, point, strict=True)) for point in points}


@settings(max_examples=200, deadline=None)
@given(first=AXES, second=AXES, offsets=st.tuples(st.integers(0, 9), st.integers(0, 9)), distance=st.integers(-20, 20))
def test_elements_are_shared_where_two_points_meet(
    first: list[tuple[int, int]], second: list[tuple[int, int]], offsets: tuple[int, int], distance: int
) -> None:
    domains = [tuple(extent for extent, _ in axes) for axes in (first, second)]
    strides = [tuple(stride for _, stride in axes) for axes in (first, second)]
    one, other = (Access(0, offset, steps) for offset, steps in zip(offsets, strides, strict=True))
    shared = elements(one, domains[0]) & {distance + element for element in elements(other, domains[1])}
    assert may_share(one, domains[0], other, domains[1], distance) == bool(shared)


def test_parts_of_the_same_rows_are_apart() -> None:
    left, right = Access(0, 0, (2008, 1)), Access(0, 0, (2008, 1))
    assert not may_share(left, (32, 40), right, (32, 96), 40)
    assert may_share(left, (32, 41), right, (32, 96), 40)
    assert may_share(left, (32, 40), right, (32, 1969), 40)
