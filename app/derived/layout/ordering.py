"""The order within each layer that lets few edges cross: barycentre sweeps, then exchanges of neighbours.

Source: Eades and Wormald 1994, doi:10.1007/BF01187020.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

import numpy as np
from numpy.typing import NDArray

from app.derived.layout.layers import Layered

SWEEPS, FEW_SWEEPS = 12, 4
MANY_VERTICES = 6000
"""From so many on time counts for more than the last crossing: such a graph is never drawn as a whole."""
_EXCHANGED_VERTICES = 1500
_EXCHANGE_ROUNDS = 4
Order = list[list[int]]
Indices = NDArray[np.int64]


def order_layers(graph: Layered) -> Order:
    """Return the vertices of each layer from left to right; the same for the same graph."""
    count = len(graph.layer)
    if not count:
        return []
    layer = np.asarray(graph.layer, dtype=np.int64)
    sides = (_side(graph, layer, upwards=False), _side(graph, layer, upwards=True))
    start = _first_order(graph)
    position = _positions(start, count)
    best, fewest = start, crossings(graph, start)
    for sweep in range(SWEEPS if count < MANY_VERTICES else FEW_SWEEPS):
        if not fewest:
            break
        _sweep(sides[sweep % 2], position)
        order = _layers_by_position(layer, position)
        crossed = crossings(graph, order)
        if crossed < fewest:
            best, fewest = order, crossed
    if fewest and count <= _EXCHANGED_VERTICES:
        best = _exchange(graph, best)
    return best


def crossings(graph: Layered, order: Order) -> int:
    """Return how many pairs of links cross."""
    place = [0] * len(graph.layer)
    for layer in order:
        for position, vertex in enumerate(layer):
            place[vertex] = position
    between: list[list[tuple[int, int]]] = [[] for _ in order]
    for source, target in graph.links:
        between[graph.layer[source]].append((place[source], place[target]))
    return sum(_inversions(pairs) for pairs in between)


def _inversions(pairs: list[tuple[int, int]]) -> int:
    pairs.sort()
    seen: list[int] = []
    total = 0
    for _, end in pairs:
        total += len(seen) - bisect_right(seen, end)
        insort(seen, end)
    return total


def _first_order(graph: Layered) -> Order:
    """Return the vertices in the order that a walk from the earliest node meets them: neighbours stay together."""
    below: list[list[int]] = [[] for _ in graph.layer]
    for source, target in graph.links:
        below[source].append(target)
    order: Order = [[] for _ in range(max(graph.layer) + 1)]
    seen = [False] * len(graph.layer)
    for first in range(len(graph.layer)):
        stack = [first]
        while stack:
            vertex = stack.pop()
            if not seen[vertex]:
                seen[vertex] = True
                order[graph.layer[vertex]].append(vertex)
                stack += reversed(below[vertex])
    return order


def _positions(order: Order, count: int) -> NDArray[np.float64]:
    """Return each vertex's place, in the middle of its layer when layers are centred on each other."""
    position = np.zeros(count)
    for layer in order:
        position[layer] = np.arange(len(layer)) - (len(layer) - 1) / 2
    return position


def _layers_by_position(layer: Indices, position: NDArray[np.float64]) -> Order:
    order = np.lexsort((np.arange(len(layer)), position, layer))
    cuts = np.flatnonzero(np.diff(layer[order])) + 1
    return [part.tolist() for part in np.split(order, cuts)]


def _side(graph: Layered, layer: Indices, upwards: bool) -> list[tuple[Indices, Indices, Indices]]:
    """Return for each layer, in the sweep's order, its vertices and its links as (own place, neighbour)."""
    links = np.asarray(graph.links, dtype=np.int64).reshape(-1, 2)
    own, other = (links[:, 0], links[:, 1]) if upwards else (links[:, 1], links[:, 0])
    by_layer = np.argsort(layer, kind="stable")
    starts = np.searchsorted(layer[by_layer], np.arange(int(layer.max()) + 2))
    place = np.empty(len(layer), dtype=np.int64)
    place[by_layer] = np.arange(len(layer)) - starts[layer[by_layer]]
    ordered = np.argsort(layer[own], kind="stable")
    cuts = np.searchsorted(layer[own][ordered], np.arange(int(layer.max()) + 2))
    parts = []
    for level in range(int(layer.max()) + 1):
        chosen = ordered[cuts[level] : cuts[level + 1]]
        if len(chosen):
            parts.append((by_layer[starts[level] : starts[level + 1]], place[own[chosen]], other[chosen]))
    return parts[::-1] if upwards else parts


def _sweep(side: list[tuple[Indices, Indices, Indices]], position: NDArray[np.float64]) -> None:
    """Put each layer's vertices into the order of the middle of their neighbours in the layer before."""
    for vertices, own, other in side:
        size = len(vertices)
        count = np.bincount(own, minlength=size)
        total = np.bincount(own, weights=position[other], minlength=size)
        wanted = np.where(count > 0, total / np.maximum(count, 1), position[vertices])
        order = np.lexsort((position[vertices], wanted))
        position[vertices[order]] = np.arange(size) - (size - 1) / 2


def _exchange(graph: Layered, order: Order) -> Order:
    """Exchange neighbours in a layer wherever fewer links cross then."""
    order = [list(layer) for layer in order]
    above: list[list[int]] = [[] for _ in graph.layer]
    below: list[list[int]] = [[] for _ in graph.layer]
    for source, target in graph.links:
        above[target].append(source)
        below[source].append(target)
    place = [0] * len(graph.layer)
    for layer in order:
        for position, vertex in enumerate(layer):
            place[vertex] = position
    for _ in range(_EXCHANGE_ROUNDS):
        if not sum(_exchange_layer(layer, place, (above, below)) for layer in order):
            break
    return order


def _exchange_layer(layer: list[int], place: list[int], sides: tuple[list[list[int]], list[list[int]]]) -> int:
    exchanged = 0
    for position in range(len(layer) - 1):
        left, right = layer[position], layer[position + 1]
        gain = 0
        for side in sides:
            if side[left] and side[right]:
                gain += _gain([place[other] for other in side[left]], [place[other] for other in side[right]])
        if gain > 0:
            layer[position], layer[position + 1] = right, left
            place[left], place[right] = position + 1, position
            exchanged += 1
    return exchanged


def _gain(left: list[int], right: list[int]) -> int:
    """Return how many crossings less there are with the right one on the left."""
    right.sort()
    now = sum(bisect_left(right, end) for end in left)
    then = sum(len(right) - bisect_right(right, end) for end in left)
    return now - then
