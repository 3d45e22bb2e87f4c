"""k-means of weights in one dimension: codebooks for a whole tensor, a row, or a group of columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.quantized.kmeans_steps import KEYS, assign_rows, cluster, cluster_rows, count_keys
from kernels.quantized.row_tiles import over_rows

MOST_CENTROIDS = 256
_LEAST_IMPORTANCE = 1e-6
"""Of the mean: a weight whose inputs were always zero still gets a centroid near it."""


class KmeansError(ValueError):
    """Values that cannot be clustered; the message names what was given and what is needed."""


def tensor_centroids(values: NDArray[np.float32], clusters: int) -> NDArray[np.float32]:
    """Return the `clusters` centroids, in order, of all the values: one pass for a histogram of 2**18 keys.

    Raises KmeansError for no values, values that are not finite, or a number of clusters that is not 1 to 256.
    """
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    _check(flat, clusters)
    counts, sums = np.zeros(KEYS, np.int64), np.zeros(KEYS)
    count_keys(flat.view(np.uint32), flat, counts, sums)
    there = np.flatnonzero(counts)
    found = np.empty(clusters)
    means = sums[there] / counts[there]
    if not np.isfinite(means).all():
        raise KmeansError("values hold NaN or infinity; give finite ones")
    cluster(means, counts[there].astype(np.float64), found)
    return found.astype(np.float32)


def row_centroids(
    weights: NDArray[np.float32], clusters: int, importance: NDArray[np.floating] | None = None, threads: int = 1
) -> NDArray[np.float32]:
    """Return the centroids [rows, clusters], in order, of each row of weights [rows, columns]; the best there are.

    importance: of each column, [columns], or [n, columns] where row r has that of row r % n; None counts all alike.
    Up to 1024 columns the optimum is exact; beyond, Lloyd's steps start from that of 1024 pieces.
    Raises KmeansError for no values, values that are not finite, or a number of clusters that is not 1 to 256.
    """
    rows, columns = _shape(weights)
    _check(weights, clusters, finite=True)
    shares = np.ones((1, columns)) if importance is None else np.array(importance, np.float64, ndmin=2)
    if shares.shape[1] != columns or not np.isfinite(shares).all() or (shares < 0).any():
        given = f"importance {list(shares.shape)}"
        raise KmeansError(f"{given} does not go with {columns} columns; give one finite number, 0 or more, a column")
    means = shares.mean(axis=1, keepdims=True)
    shares = np.where(means > 0, shares / np.where(means > 0, means, 1), 1) + _LEAST_IMPORTANCE
    values, found = np.ascontiguousarray(weights, np.float32), np.empty((rows, clusters))
    over_rows(lambda first, last: cluster_rows(values, shares, found, first, last), rows, threads)
    return found.astype(np.float32)


def nearest_codes(weights: NDArray[np.float32], centroids: NDArray[np.float32], threads: int = 1) -> NDArray[np.uint8]:
    """Return the number of the nearest centroid of each weight; centroids [1 or rows, clusters] in order.

    Raises KmeansError where the shapes do not go together.
    """
    rows, _columns = _shape(weights)
    if centroids.ndim != 2 or len(centroids) not in (1, rows) or not 1 <= centroids.shape[1] <= MOST_CENTROIDS:
        given = f"centroids {list(centroids.shape)}"
        raise KmeansError(f"{given} do not go with weights {list(weights.shape)}; give [1 or {rows}, 1 to 256]")
    values, books = np.ascontiguousarray(weights, np.float32), np.ascontiguousarray(centroids, np.float32)
    codes = np.empty(values.shape, np.uint8)
    over_rows(lambda first, last: assign_rows(values, books, codes, first, last), rows, threads)
    return codes


def _shape(weights: NDArray[np.float32]) -> tuple[int, int]:
    if weights.ndim != 2:
        raise KmeansError(f"weights {list(weights.shape)} are no matrix; give [rows, columns]")
    return weights.shape[0], weights.shape[1]


def _check(values: NDArray[np.float32], clusters: int, finite: bool = False) -> None:
    if not 1 <= clusters <= MOST_CENTROIDS:
        raise KmeansError(f"{clusters} centroids cannot be fitted; give 1 to {MOST_CENTROIDS}")
    if values.size == 0:
        raise KmeansError(f"values {list(values.shape)} are empty; there is nothing to fit")
    if finite and not np.isfinite(values).all():
        raise KmeansError("values hold NaN or infinity; give finite ones")
