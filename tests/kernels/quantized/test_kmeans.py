"""k-means in one dimension against an exhaustive search, and codes against the nearest centroid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.quantized.kmeans import KmeansError, nearest_codes, row_centroids, tensor_centroids

DRAWN = np.random.default_rng()


def squared_error(values: NDArray[np.float32], centroids: NDArray[np.float32], weights: NDArray[np.float64]) -> float:
    gaps = (values[:, None].astype(np.float64) - centroids[None]) ** 2
    return float((gaps.min(axis=1) * weights).sum())


def least_error(values: NDArray[np.float32], clusters: int, weights: NDArray[np.float64]) -> float:
    """The best error over all ways to cut the sorted values into segments."""
    order = np.argsort(values)
    x, w = values[order].astype(np.float64), weights[order]
    best = np.inf
    for cuts in itertools.combinations_with_replacement(range(len(x) + 1), clusters - 1):
        edges, total = (0, *cuts, len(x)), 0.0
        for low, high in itertools.pairwise(edges):
            if high > low:
                mean = np.average(x[low:high], weights=w[low:high])
                total += float((w[low:high] * (x[low:high] - mean) ** 2).sum())
        best = min(best, total)
    return best


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=7),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_centroids_of_a_row_are_the_best_there_are(numbers: list[int], clusters: int, seed: int) -> None:
    values = np.array(numbers, np.float32) / 8
    importance = np.random.default_rng(seed).uniform(0.1, 3, len(values))
    found = row_centroids(values[None], clusters, importance)[0]
    least = least_error(values, clusters, importance)
    assert squared_error(values, found, importance) <= least * 1.001 + 1e-5
    assert (np.diff(found) >= 0).all()


def test_a_histogram_of_many_values_is_within_half_a_percent_of_the_best() -> None:
    values = np.append(DRAWN.standard_t(5, 1500), [-40.0, 1e6]).astype(np.float32)
    ones = np.ones(len(values))
    exact = row_centroids(np.sort(values)[None, 480:1502], 16)[0]  # 1022 values: no merging, so the optimum
    ours = tensor_centroids(np.sort(values)[480:1502], 16)
    middle = np.sort(values)[480:1502]
    assert squared_error(middle, ours, ones[:1022]) <= 1.005 * squared_error(middle, exact, ones[:1022])
    assert np.isclose(tensor_centroids(values, 16)[-1], 1e6)


def test_an_outlier_costs_the_others_no_precision() -> None:
    values = DRAWN.normal(size=20_000).astype(np.float32)
    plain = squared_error(values, tensor_centroids(values, 15), np.ones(len(values)))
    with_outlier = tensor_centroids(np.append(values, np.float32(1e5)), 16)
    assert squared_error(values, with_outlier, np.ones(len(values))) <= 1.02 * plain


def test_columns_that_count_more_are_served_better() -> None:
    weights = DRAWN.normal(size=(7, 40)).astype(np.float32)
    importance = np.where(np.arange(40) < 10, 1000.0, 1.0)
    for row, favoured, plain in zip(
        weights, row_centroids(weights, 4, importance), row_centroids(weights, 4), strict=True
    ):
        assert squared_error(row[:10], favoured, np.ones(10)) <= squared_error(row[:10], plain, np.ones(10)) + 1e-6


def test_codes_name_the_nearest_centroid_whatever_the_threads() -> None:
    weights = DRAWN.normal(size=(13, 37)).astype(np.float32)
    for centroids in (row_centroids(weights, 8), tensor_centroids(weights, 16)[None]):
        codes = nearest_codes(weights, centroids, threads=3)
        books = np.broadcast_to(centroids, (13, centroids.shape[1]))
        chosen = np.abs(weights - np.take_along_axis(books, codes.astype(np.intp), axis=1))
        assert (chosen <= np.abs(weights[:, :, None] - books[:, None]).min(axis=2) + 1e-6).all()
        assert np.array_equal(codes, nearest_codes(weights, centroids))


def test_fewer_values_than_centroids_are_kept_exactly() -> None:
    weights = np.array([[3.0, -1.0, 3.0]], np.float32)
    found = row_centroids(weights, 16)
    assert np.array_equal(found[0][nearest_codes(weights, found)], weights)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(wrong: float) -> None:
    values = np.array([[1.0, wrong, 2.0]], np.float32)
    with pytest.raises(KmeansError, match="finite"):
        row_centroids(values, 2)
    with pytest.raises(KmeansError, match="finite"):
        tensor_centroids(values, 2)


def test_what_cannot_be_clustered_is_named() -> None:
    weights = np.ones((2, 3), np.float32)
    with pytest.raises(KmeansError, match=r"values \[0\] are empty"):
        tensor_centroids(np.empty(0, np.float32), 4)
    with pytest.raises(KmeansError, match="257 centroids"):
        row_centroids(weights, 257)
    with pytest.raises(KmeansError, match="does not go with 3 columns"):
        row_centroids(weights, 4, np.ones(5))
    with pytest.raises(KmeansError, match=r"centroids \[3, 4\]"):
        nearest_codes(weights, np.zeros((3, 4), np.float32))
