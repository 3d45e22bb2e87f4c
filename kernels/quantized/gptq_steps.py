"""The compiled steps of fitting codes to a layer's outputs."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_TILE = 4
"""Rows whose equations are summed together: their sums stay in the second-level cache."""
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "boundscheck": False}


@numba.njit(fastmath={"contract", "nsz"}, **_OPTIONS)
def round_block(
    weights: Any, factor: Any, centroids: Any, books: Any, codes: Any, errors: Any, first: Any, last: Any
) -> None:
    """Round the columns of a block one after the other; the later ones of the block make up for each error.

    weights float32 [rows, block] are changed; factor [block, block] upper triangular; centroids [rows, groups, k] in
    order; books [block]: the group of each column. Writes codes and, for the columns behind the block, errors.
    """
    block, clusters = weights.shape[1], centroids.shape[2]
    for row in range(first, last):
        values = weights[row]
        for column in range(block):
            book, value = centroids[row, books[column]], values[column]
            code = 0
            for number in range(clusters - 1):
                code += value > np.float32(0.5) * (book[number] + book[number + 1])
            error = (value - book[code]) / factor[column, column]
            codes[row, column], errors[row, column] = code, error
            effect = factor[column]
            for later in range(column + 1, block):
                values[later] -= error * effect[later]


@numba.njit(**_OPTIONS)
def _equations_of_tile(codes: Any, hessian: Any, sums: Any, matrices: Any, first: Any, last: Any) -> None:
    """Write S^T H S of rows [first, last): S[c, code of c] = 1. Each row of H is read once for the whole tile."""
    columns, clusters = codes.shape[1], sums.shape[1]
    sums[:], matrices[:] = 0.0, 0.0
    for column in range(columns):
        of_column = hessian[column]
        for row in range(first, last):
            total = sums[row - first, codes[row, column]]
            for other in range(columns):
                total[other] += of_column[other]
    for row in range(first, last):
        found, matrix = codes[row], matrices[row - first]
        for code in range(clusters):
            of_code = sums[row - first, code]
            for column in range(columns):
                matrix[code, found[column]] += of_code[column]


@numba.njit(**_OPTIONS)
def refit_rows(codes: Any, hessian: Any, targets: Any, centroids: Any, first: Any, last: Any) -> None:
    """Move the centroids [rows, k] of rows [first, last) to where the outputs' error is least, with the codes kept.

    targets: weights @ H.
    """
    columns, clusters = codes.shape[1], centroids.shape[1]
    sums = np.empty((_TILE, clusters, columns), np.float32)
    matrices, vector = np.empty((_TILE, clusters, clusters)), np.empty(clusters)
    for start in range(first, last, _TILE):
        stop = min(start + _TILE, last)
        _equations_of_tile(codes, hessian, sums, matrices, start, stop)
        for row in range(start, stop):
            matrix, size = matrices[row - start], 0.0
            vector[:] = 0.0
            for column in range(columns):
                vector[codes[row, column]] += targets[row, column]
            for code in range(clusters):
                size += matrix[code, code] / clusters
            for code in range(clusters):
                # a little pull to where it is keeps a centroid from running away; one that nothing uses stays
                pull = 1e-4 * size + 1e-30
                matrix[code, code] += pull
                vector[code] += pull * centroids[row, code]
            centroids[row] = np.linalg.solve(matrix, vector)
