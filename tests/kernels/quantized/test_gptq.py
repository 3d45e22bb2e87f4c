"""Codes fitted to outputs against the textbook loop in float64, and centroids against least squares."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.quantized.gptq import (
    GptqError,
    feedback,
    fitted_codes,
    inverse_factor,
    output_error,
    refitted_centroids,
)
from kernels.quantized.kmeans import nearest_codes, row_centroids

Matrix = NDArray[np.float64]
DRAWN = np.random.default_rng()


def drawn_layer(rows: int, columns: int) -> tuple[NDArray[np.float32], Matrix]:
    """Weights, and the Hessian of inputs whose columns depend on each other."""
    mixing = np.eye(columns) + 0.3 * DRAWN.normal(size=(columns, columns))
    inputs = DRAWN.normal(size=(3 * columns, columns)) @ mixing
    return DRAWN.normal(size=(rows, columns)).astype(np.float32), inputs.T @ inputs


def textbook(weights: NDArray[np.float32], hessian: Matrix, centroids: NDArray[np.float32]) -> NDArray[np.uint8]:
    """One column after the other, in float64: every later column makes up for the error."""
    order = np.argsort(-np.diag(hessian), kind="stable")
    factor = inverse_factor(hessian[np.ix_(order, order)])
    left, codes = weights[:, order].astype(np.float64), np.empty(weights.shape, np.uint8)
    for column in range(weights.shape[1]):
        near = np.abs(left[:, column, None] - centroids).argmin(axis=1)
        codes[:, order[column]] = near
        error = (left[:, column] - centroids[np.arange(len(weights)), near]) / factor[column, column]
        left[:, column:] -= error[:, None] * factor[column, column:]
    return codes


def values_of(codes: NDArray[np.uint8], centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.take_along_axis(centroids, codes.astype(np.intp), axis=1)


def test_the_factor_squares_to_the_inverse() -> None:
    _, hessian = drawn_layer(1, 23)
    upper = inverse_factor(hessian, 0.01)
    damped = hessian + 0.01 * np.diag(hessian).mean() * np.eye(23)
    assert np.allclose(upper.T @ upper @ damped, np.eye(23), atol=1e-8)


def test_codes_are_as_good_as_the_textbook_loops_across_blocks() -> None:
    weights, hessian = drawn_layer(9, 203)
    centroids = row_centroids(weights, 8)
    ours = fitted_codes(weights, feedback(hessian), centroids, threads=2)
    theirs = textbook(weights, hessian, centroids)
    assert (ours == theirs).mean() > 0.9
    errors = [output_error(weights, values_of(codes, centroids), hessian) for codes in (ours, theirs)]
    assert errors[0] <= 1.05 * errors[1]


def test_outputs_are_nearer_than_with_the_nearest_centroids() -> None:
    weights, hessian = drawn_layer(21, 67)
    centroids = row_centroids(weights, 8, np.diag(hessian))
    fitted = values_of(fitted_codes(weights, feedback(hessian), centroids), centroids)
    nearest = values_of(nearest_codes(weights, centroids), centroids)
    assert output_error(weights, fitted, hessian) < output_error(weights, nearest, hessian)


def test_inputs_that_do_not_depend_on_each_other_leave_the_nearest_centroids() -> None:
    weights, _ = drawn_layer(5, 31)
    centroids = row_centroids(weights, 4)
    codes = fitted_codes(weights, feedback(np.diag(DRAWN.uniform(1, 2, 31))), centroids)
    assert np.array_equal(codes, nearest_codes(weights, centroids))


def test_groups_have_codebooks_of_their_own() -> None:
    weights, hessian = drawn_layer(6, 40)
    books = np.stack([row_centroids(weights[:, start : start + 16], 4) for start in (0, 16, 32)], axis=1)
    codes = fitted_codes(weights, feedback(np.diag(np.diag(hessian))), books, group=16)
    for number, start in enumerate((0, 16, 32)):
        part = slice(start, start + 16)
        assert np.array_equal(codes[:, part], nearest_codes(weights[:, part], books[:, number]))


def test_refitted_centroids_solve_the_least_squares_of_the_outputs() -> None:
    weights, hessian = drawn_layer(7, 45)
    start = row_centroids(weights, 4)
    codes = fitted_codes(weights, feedback(hessian), start)
    found = refitted_centroids(weights, hessian, codes, start, threads=2)
    root = np.linalg.cholesky(hessian).T
    for row in range(7):
        chosen = np.eye(4)[codes[row]]
        best = np.linalg.lstsq(root @ chosen, root @ weights[row], rcond=None)[0]
        assert np.allclose(found[row], np.sort(best), rtol=0.02, atol=0.02)


def test_columns_without_inputs_are_rounded_to_the_nearest_centroid() -> None:
    weights, hessian = drawn_layer(4, 20)
    hessian[7], hessian[:, 7] = 0.0, 0.0
    centroids = row_centroids(weights, 4)
    codes = fitted_codes(weights, feedback(hessian), centroids)
    assert np.array_equal(codes[:, 7], nearest_codes(weights, centroids)[:, 7])
    silent = fitted_codes(weights, feedback(np.zeros((20, 20))), centroids)
    assert np.array_equal(silent, nearest_codes(weights, centroids))


def test_what_does_not_go_together_is_named() -> None:
    weights, hessian = drawn_layer(3, 8)
    centroids = row_centroids(weights, 4)
    with pytest.raises(GptqError, match="not finite"):
        feedback(np.full((8, 8), np.nan))
    with pytest.raises(GptqError, match="a Hessian of 7 columns"):
        fitted_codes(weights, feedback(hessian[:7, :7]), centroids)
    with pytest.raises(GptqError, match=r"centroids \[2, 4\]"):
        fitted_codes(weights, feedback(hessian), centroids[:2])
