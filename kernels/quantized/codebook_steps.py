"""Compiled steps between weights and their codebooks: look centroids up, and sum gradients by centroid."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "boundscheck": False}


@numba.njit(**_OPTIONS)
def look_up_rows(codes: Any, centroids: Any, group: Any, weights: Any, first: Any, last: Any) -> None:
    """Write the centroid of each code of rows [first, last); centroids [1 or rows, groups, k]."""
    for row in range(first, last):
        books = centroids[row % len(centroids)]
        for number in range(books.shape[0]):
            book = books[number]
            for column in range(number * group, min((number + 1) * group, codes.shape[1])):
                weights[row, column] = book[codes[row, column]]


@numba.njit(**_OPTIONS)
def sum_by_code(codes: Any, gradient: Any, group: Any, sums: Any) -> None:
    """Add the gradient of each weight to that of its centroid; sums float64 [1 or rows, groups, k]."""
    for row in range(codes.shape[0]):
        books = sums[row % len(sums)]
        for number in range(books.shape[0]):
            book = books[number]
            for column in range(number * group, min((number + 1) * group, codes.shape[1])):
                book[codes[row, column]] += np.float64(gradient[row, column])
