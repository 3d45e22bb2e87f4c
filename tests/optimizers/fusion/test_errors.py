"""Distances from float64: ULP and relative errors of known values, and of what has no distance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizers.fusion.errors import Errors, errors_of

FRESH = np.random.default_rng()


@given(st.floats(-(2.0**99), 2.0**99, width=32), st.integers(0, 40))
def test_a_value_some_spacings_away_is_that_many_ulp(value: float, steps: int) -> None:
    exact = np.float32(value)
    moved = exact
    for _ in range(steps):
        moved = np.nextafter(moved, np.float32(-math.inf if value > 0 else math.inf))
    if np.spacing(np.abs(moved)) != np.spacing(np.abs(exact)):
        return  # the spacing changes on the way
    found = errors_of([np.array([moved])], [np.array([exact], np.float64)])
    assert found.max_ulp == pytest.approx(steps)


def test_rounding_once_is_at_most_half_an_ulp() -> None:
    exact = FRESH.standard_normal(10_001)
    found = errors_of([exact.astype(np.float32)], [exact])
    assert 0.0 < found.median_ulp < 0.5 and found.max_ulp <= 0.5 and found.values == 10_001


def test_relative_error_is_of_the_largest_value_of_each_result() -> None:
    small, large = np.array([1e-3, 2e-3]), np.array([1e6, 2e6])
    found = errors_of([small + 1e-4, large], [small, large])
    assert found.max_rel == pytest.approx(0.05)


def test_rounding_noise_is_held_against_the_largest_result() -> None:
    noise, exact = np.array([3e-8, -1e-8], np.float32), np.array([1e-17, 2e-17])
    values = np.array([1.0, 2.0])
    found = errors_of([noise, values.astype(np.float32)], [exact, values])
    assert found.max_rel < 1e-7 and found.max_ulp < 1.0
    alone = errors_of([noise], [exact])
    assert alone.max_rel > 1e6


def test_integers_and_flags_must_be_equal() -> None:
    found = errors_of([np.array([1, 2, 3]), np.array([True])], [np.array([1, 5, 7]), np.array([True])])
    assert found == Errors(unequal=2)


@pytest.mark.parametrize(
    ("result", "exact", "misplaced"),
    [
        ([np.nan, 1.0], [np.nan, 1.0], 0),
        ([np.inf, 1.0], [np.inf, 1.0], 0),
        ([np.inf, 1.0], [-np.inf, 1.0], 1),
        ([1.0, np.nan], [1.0, 2.0], 1),
        ([1.0, 2.0], [np.nan, 2.0], 1),
        # Beyond float32: infinity is what rounding gives.
        ([np.inf, 1.0], [1e300, 1.0], 0),
    ],
)
def test_values_without_a_distance_must_stand_at_the_same_places(
    result: list[float], exact: list[float], misplaced: int
) -> None:
    found = errors_of([np.array(result, np.float32)], [np.array(exact)])
    assert found.elsewhere == misplaced
    assert math.isfinite(found.max_ulp)


def test_nothing_to_compare_is_no_error() -> None:
    assert errors_of([], []) == Errors()
    assert errors_of([np.zeros(0, np.float32)], [np.zeros(0)]) == Errors()
