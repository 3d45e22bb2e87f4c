"""Where each vertex stands in its layer: chains straight, nodes apart, each near the middle of its neighbours.

Source: Brandes and Köpf 2001, doi:10.1007/3-540-45848-4_3, with blocks placed by longest paths over the block graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from app.derived.layout.layers import Layered
from app.derived.layout.ordering import MANY_VERTICES, Order

Gap = float
_NONE = -1


def assign_coordinates(graph: Layered, order: Order, widths: Sequence[float], gap: Gap, dummy_gap: Gap) -> list[float]:
    """Return the centre of each vertex across the layers, the leftmost side at 0.

    widths: of each vertex; a dummy's is 0. gap: between two nodes; dummy_gap: where one of them is a dummy.
    """
    if not order:
        return []
    neighbours = _neighbours(graph, order)
    marked = _conflicts(graph, order, neighbours[0]) | _branches(graph)
    layouts = []
    for upwards in (False, True):
        for mirrored in (False, True) if len(graph.layer) < MANY_VERTICES else (upwards,):
            rows = order[::-1] if upwards else order
            rows = [layer[::-1] for layer in rows] if mirrored else rows
            roots = _align(graph, rows, neighbours[upwards], marked)
            centres = _compact(rows, roots, widths, graph.nodes, (gap, dummy_gap))
            layouts.append([-value for value in centres] if mirrored else centres)
    return _balanced(layouts, widths)


def _neighbours(graph: Layered, order: Order) -> tuple[list[list[int]], list[list[int]]]:
    """Return each vertex's neighbours above, and those below, from left to right."""
    above: list[list[int]] = [[] for _ in graph.layer]
    below: list[list[int]] = [[] for _ in graph.layer]
    place = _places(order, len(graph.layer))
    for source, target in graph.links:
        above[target].append(source)
        below[source].append(target)
    for side in (above, below):
        for others in side:
            others.sort(key=place.__getitem__)
    return above, below


def _places(order: Order, count: int) -> list[int]:
    place = [0] * count
    for layer in order:
        for position, vertex in enumerate(layer):
            place[vertex] = position
    return place


def _conflicts(graph: Layered, order: Order, above: list[list[int]]) -> set[tuple[int, int]]:
    """Return links that cross one between two dummies: those of long edges stay straight."""
    marked: set[tuple[int, int]] = set()
    place = _places(order, len(graph.layer))
    for level in range(1, len(order)):
        lower, left, start = order[level], 0, 0
        last = len(order[level - 1]) - 1
        for position, vertex in enumerate(lower):
            inner = _inner(graph, vertex, above)
            if inner == _NONE and position < len(lower) - 1:
                continue
            right = place[inner] if inner != _NONE else last
            for other in lower[start : position + 1]:
                for neighbour in above[other]:
                    crosses = place[neighbour] < left or place[neighbour] > right
                    if crosses and not (other >= graph.nodes and neighbour >= graph.nodes):
                        marked.add((neighbour, other))
            start, left = position + 1, right
    return marked


def _branches(graph: Layered) -> set[tuple[int, int]]:
    """Return links that leave a shared way which itself goes on: the way stays straight, the branch bends."""
    onward = {source for source, target in graph.links if source >= graph.nodes and target >= graph.nodes}
    return {(source, target) for source, target in graph.links if source in onward and target < graph.nodes}


def _inner(graph: Layered, vertex: int, above: list[list[int]]) -> int:
    """Return the dummy above a dummy; _NONE for any other vertex."""
    if vertex < graph.nodes:
        return _NONE
    return next((other for other in above[vertex] if other >= graph.nodes), _NONE)


def _align(graph: Layered, rows: Order, neighbours: list[list[int]], marked: set[tuple[int, int]]) -> list[int]:
    """Return each vertex's root: vertices of one root stand exactly above each other."""
    count = len(graph.layer)
    root = list(range(count))
    place = _places(rows, count)
    taken = [False] * count
    for layer in rows:
        last = _NONE
        for vertex in layer:
            others = neighbours[vertex]
            if not others:
                continue
            # The rows may be mirrored, and the neighbours' order with them.
            ordered = others if place[others[0]] <= place[others[-1]] else others[::-1]
            middle = (len(ordered) - 1) // 2
            for other in ordered[middle : len(ordered) // 2 + 1]:
                pair = (other, vertex) if graph.layer[other] < graph.layer[vertex] else (vertex, other)
                if not taken[other] and pair not in marked and last < place[other]:
                    root[vertex] = root[other]
                    taken[other] = True
                    last = place[other]
                    break
    return root


def _compact(rows: Order, roots: list[int], widths: Sequence[float], nodes: int, gaps: tuple[Gap, Gap]) -> list[float]:
    """Return centres as far left as the order allows; then blocks move right as far as nothing else moves."""
    after: dict[int, dict[int, float]] = {}
    waiting: dict[int, int] = {}
    for layer in rows:
        for left, right in pairwise(layer):
            gap = gaps[0] if left < nodes and right < nodes else gaps[1]
            distance = (widths[left] + widths[right]) / 2 + gap
            ends = after.setdefault(roots[left], {})
            if roots[right] not in ends:
                waiting[roots[right]] = waiting.get(roots[right], 0) + 1
            ends[roots[right]] = max(distance, ends.get(roots[right], 0.0))
    blocks = sorted(set(roots))
    x = {block: widths[block] / 2 for block in blocks}
    sequence = [block for block in blocks if not waiting.get(block)]
    for block in sequence:
        for other, distance in after.get(block, {}).items():
            x[other] = max(x[other], x[block] + distance)
            waiting[other] -= 1
            if not waiting[other]:
                sequence.append(other)
    for block in reversed(sequence):
        room = [x[other] - distance for other, distance in after.get(block, {}).items()]
        if room:
            x[block] = max(x[block], min(room))
    return [x[root] for root in roots]


def _balanced(layouts: list[list[float]], widths: Sequence[float]) -> list[float]:
    """Return for each vertex the mean of its places, of four the two in the middle, the layouts laid on each other."""
    sides = [_sides(layout, widths) for layout in layouts]
    narrowest = min(range(len(layouts)), key=lambda index: sides[index][1] - sides[index][0])
    moved = []
    for index, layout in enumerate(layouts):
        # Left-aligned layouts meet at the left side, mirrored ones, each second, at the right.
        side = index % 2
        shift = sides[narrowest][side] - sides[index][side]
        moved.append([value + shift for value in layout])
    if len(moved) == 2:
        centres = [(first + second) / 2 for first, second in zip(*moved, strict=True)]
    else:
        centres = [sum(sorted(places)[1:3]) / 2 for places in zip(*moved, strict=True)]
    left = _sides(centres, widths)[0]
    return [value - left for value in centres]


def _sides(centres: Sequence[float], widths: Sequence[float]) -> tuple[float, float]:
    left = min(centre - width / 2 for centre, width in zip(centres, widths, strict=True))
    right = max(centre + width / 2 for centre, width in zip(centres, widths, strict=True))
    return left, right
