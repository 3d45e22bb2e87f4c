"""The compiled steps of k-means in one dimension: values in order, sums of all that lies before each."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

PIECES = 1024
"""More values than these are merged into so many before the best split is searched; Lloyd's steps then see them all."""
KEYS = 1 << 18
"""Of a histogram: sign, exponent and 9 bits of mantissa, so that outliers cost the others no precision."""
_LLOYD_STEPS = 100
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "boundscheck": False}


@numba.njit(**_OPTIONS)
def count_keys(bits: Any, values: Any, counts: Any, sums: Any) -> None:
    """Add the values, whose bits as uint32 are also given, to counts and sums of keys that keep their order."""
    for index in range(values.size):
        pattern = bits[index]
        flipped = ~pattern if pattern >> np.uint32(31) else pattern | np.uint32(0x80000000)
        key = np.int64(flipped >> np.uint32(14))
        counts[key] += 1
        sums[key] += np.float64(values[index])


@numba.njit(**_OPTIONS)
def cluster(values: Any, weights: Any, centroids: Any) -> None:
    """Write the centroids, in order, that serve sorted float64 values with their weights best."""
    count = values.size
    total, moment = np.empty(count + 1), np.empty(count + 1)
    total[0], moment[0] = 0.0, 0.0
    # sums of squares about a middle value lose less to rounding
    middle = values[count // 2]
    for index in range(count):
        total[index + 1] = total[index] + weights[index]
        moment[index + 1] = moment[index] + weights[index] * (values[index] - middle)
    if count <= PIECES:
        edges = _split(total, moment, centroids.size)
    else:
        kept = _merged(values, weights)
        edges = kept[_split(total[kept], moment[kept], centroids.size)]
    _means(values, total, moment, middle, edges, centroids)
    if count > PIECES:
        _lloyd(values, total, moment, middle, centroids)


@numba.njit(**_OPTIONS)
def _merged(values: Any, weights: Any) -> Any:
    """Return at most PIECES + 1 edges, closer where more centroids will be: the cube root of the density."""
    count = values.size
    reach = np.zeros(count + 1)
    # an outlier far away would take all the edges
    widest = values[3 * count // 4] - values[count // 4]
    widest = widest if widest > 0 else values[count - 1] - values[0]
    for index in range(count):
        gap = min(values[min(index + 1, count - 1)] - values[max(index - 1, 0)], widest)
        reach[index + 1] = reach[index] + weights[index] ** (1 / 3) * gap ** (2 / 3)
    edges, found = np.empty(PIECES + 1, np.int64), 1
    edges[0] = 0
    for index in range(1, count):
        if reach[index] * PIECES > found * reach[count]:
            edges[found] = index
            found = min(found + 1, PIECES)
    edges[found] = count
    return edges[: found + 1]


@numba.njit(**_OPTIONS)
def _split(total: Any, moment: Any, clusters: Any) -> Any:
    """Return the edges of the best segments, [clusters + 1], by dynamic programming over prefix sums.

    What a segment explains, moment**2 / total, is to be largest. The best last edge never falls as the end moves on, so
    that each half of the ends needs only its own part of the edges.
    """
    count = total.size - 1
    before, after = np.empty(count + 1), np.empty(count + 1)
    last = np.zeros((clusters, count + 1), np.int64)
    for end in range(count + 1):
        before[end] = moment[end] * moment[end] / total[end] if total[end] > 0 else 0.0
    stack = np.empty((64, 4), np.int64)
    for cluster_number in range(1, clusters):
        depth = 1
        stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3] = 0, count, 0, count
        while depth > 0:
            depth -= 1
            low, high, first, final = stack[depth]
            end = (low + high) >> 1
            best, place = -1.0, first
            for edge in range(first, min(end, final) + 1):
                weight = total[end] - total[edge]
                gain = moment[end] - moment[edge]
                explained = before[edge] + (gain * gain / weight if weight > 0 else 0.0)
                if explained > best:
                    best, place = explained, edge
            after[end], last[cluster_number, end] = best, place
            if low < end:
                stack[depth, 0], stack[depth, 1], stack[depth, 2], stack[depth, 3] = low, end - 1, first, place
                depth += 1
            if end < high:
                stack[depth, 0], stack[depth, 1], stack[depth, 2], stack[depth, 3] = end + 1, high, place, final
                depth += 1
        before, after = after, before
    edges = np.empty(clusters + 1, np.int64)
    edges[clusters], edges[0] = count, 0
    for cluster_number in range(clusters - 1, 0, -1):
        edges[cluster_number] = last[cluster_number, edges[cluster_number + 1]]
    return edges


@numba.njit(**_OPTIONS)
def _means(values: Any, total: Any, moment: Any, middle: Any, edges: Any, centroids: Any) -> None:
    """Write the mean of each segment; an empty one's centroid is its lower neighbour's."""
    for number in range(centroids.size):
        low, high = edges[number], edges[number + 1]
        weight = total[high] - total[low]
        if weight > 0:
            centroids[number] = middle + (moment[high] - moment[low]) / weight
        else:
            centroids[number] = centroids[number - 1] if number > 0 else values[0]


@numba.njit(**_OPTIONS)
def _lloyd(values: Any, total: Any, moment: Any, middle: Any, centroids: Any) -> None:
    """Move each centroid to the mean of the values nearest to it, until none moves."""
    for _step in range(_LLOYD_STEPS):
        moved, low = False, 0
        for number in range(centroids.size):
            high = values.size
            if number + 1 < centroids.size:
                high = max(low, np.searchsorted(values, 0.5 * (centroids[number] + centroids[number + 1])))
            weight = total[high] - total[low]
            if weight > 0:
                mean = middle + (moment[high] - moment[low]) / weight
                moved |= mean != centroids[number]
                centroids[number] = mean
            low = high
        if not moved:
            break


@numba.njit(**_OPTIONS)
def cluster_rows(weights: Any, importance: Any, centroids: Any, first: Any, last: Any) -> None:
    """Write the centroids of rows [first, last) of weights; row r has the importance of row r % len(importance)."""
    columns = weights.shape[1]
    values, shares = np.empty(columns), np.empty(columns)
    for row in range(first, last):
        order = np.argsort(weights[row])
        of_row = importance[row % len(importance)]
        for place in range(columns):
            values[place] = weights[row, order[place]]
            shares[place] = of_row[order[place]]
        cluster(values, shares, centroids[row])


@numba.njit(**_OPTIONS)
def assign_rows(weights: Any, centroids: Any, codes: Any, first: Any, last: Any) -> None:
    """Write the code of each weight's nearest centroid, in rows [first, last); centroids [1 or rows, k] in order."""
    columns, clusters = weights.shape[1], centroids.shape[1]
    for row in range(first, last):
        book = centroids[row % len(centroids)]
        found, values = codes[row], weights[row]
        for column in range(columns):
            found[column] = 0
        for number in range(clusters - 1):
            edge = np.float32(0.5 * (np.float64(book[number]) + np.float64(book[number + 1])))
            for column in range(columns):
                found[column] += np.uint8(values[column] > edge)
