"""Lay out a graph of boxes in layers: places for the nodes, ways for the edges, ways in and out of its own box."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from app.derived.layout.coordinates import assign_coordinates
from app.derived.layout.layers import Layered, Pair, add_dummies, assign_layers
from app.derived.layout.ordering import order_layers

Point = tuple[float, float]
NODE_GAP, DUMMY_GAP, LAYER_GAP, GRID_GAP = 28.0, 16.0, 44.0, 18.0
WIDEST_LAYER = 2600.0
_ASPECT = 1.8


@dataclass(frozen=True)
class Placed:
    """Where everything is, from the top left corner of the whole.

    centres: of the nodes.
    bends:   for each edge the points on its way from source to target, its ends left out.
    entries: for nodes with data from outside, the way from the top side; the first point lies on it.
    exits:   the same to the bottom side; the last point lies on it.
    backward: for each edge whether it leads up: what it carries comes back in the next turn of a loop.
    """

    centres: list[Point]
    width: float
    height: float
    bends: list[list[Point]]
    backward: list[bool]
    entries: dict[int, list[Point]] = field(default_factory=dict)
    exits: dict[int, list[Point]] = field(default_factory=dict)


def lay_out(
    sizes: Sequence[tuple[float, float]],
    edges: Sequence[Pair],
    entering: Sequence[int] = (),
    leaving: Sequence[int] = (),
) -> Placed:
    """Return the layout of nodes with these sizes (width, height), in order of time, and different edges.

    Nodes without an edge stand in rows below the others. The same input gives the same output.
    """
    linked = sorted({end for edge in edges for end in edge})
    if not linked:
        return _rows(sizes, [])
    number = {node: index for index, node in enumerate(linked)}
    inner = [(number[source], number[target]) for source, target in edges]
    core = _core(
        [sizes[node] for node in linked],
        inner,
        [number[node] for node in entering if node in number],
        [number[node] for node in leaving if node in number],
    )
    lone = [node for node in range(len(sizes)) if node not in number]
    return _joined(sizes, linked, lone, core)


def _core(sizes: list[tuple[float, float]], edges: list[Pair], entering: list[int], leaving: list[int]) -> Placed:
    """Return the layout of nodes that all have edges."""
    down = [(min(edge), max(edge)) for edge in edges]
    nodes = len(sizes)
    layer = assign_layers(nodes, sorted(set(down)))
    _limit_width(layer, sizes, down)
    if entering:
        layer = [level + 1 for level in layer]
    top, bottom = 0, max(layer) + 1
    layer += [top] * len(entering) + [bottom] * len(leaving)
    ways_in = [(nodes + place, node) for place, node in enumerate(entering)]
    ways_out = [(node, nodes + len(entering) + place) for place, node in enumerate(leaving)]
    graph = add_dummies(layer, [*down, *ways_in, *ways_out])
    every = [*sizes, *[(0.0, 0.0)] * (len(graph.layer) - nodes)]
    # A port is as thin as a dummy, and may stand as near.
    graph = replace(graph, nodes=nodes)
    order = order_layers(graph)
    x = assign_coordinates(graph, order, [width for width, _ in every], NODE_GAP, DUMMY_GAP)
    levels = _levels(graph, every)
    routes = [_route(graph, edge, place, x, levels, every) for place, edge in enumerate([*down, *ways_in, *ways_out])]
    plain = routes[: len(edges)]
    backward = [edge[0] > edge[1] for edge in edges]
    height = levels[-1][1]
    entries = {
        node: [(x[port], 0.0), *route]
        for (port, node), route in zip(ways_in, routes[len(edges) : len(edges) + len(entering)], strict=True)
    }
    exits = {
        node: [*route, (x[port], height)]
        for (node, port), route in zip(ways_out, routes[len(edges) + len(entering) :], strict=True)
    }
    return Placed(
        centres=[(x[node], sum(levels[graph.layer[node]]) / 2) for node in range(nodes)],
        width=max(x[vertex] + every[vertex][0] / 2 for vertex in range(len(x))),
        height=height,
        bends=[route[::-1] if back else route for route, back in zip(plain, backward, strict=True)],
        backward=backward,
        entries=entries,
        exits=exits,
    )


def _limit_width(layer: list[int], sizes: Sequence[tuple[float, float]], edges: Sequence[Pair]) -> None:
    """Move nodes that nothing follows into lower layers, and such that nothing leads to into higher ones."""
    for ends, step in (({source for source, _ in edges}, 1), ({target for _, target in edges}, -1)):
        width: dict[int, float] = {}
        for node, level in enumerate(layer):
            if node in ends:
                width[level] = width.get(level, 0.0) + sizes[node][0] + NODE_GAP
        free = [node for node in range(len(layer)) if node not in ends]
        beyond: dict[int, int] = {}
        for node in free if step > 0 else reversed(free):
            size, level = sizes[node][0] + NODE_GAP, layer[node]
            while level in beyond or width.get(level, 0.0) + size > max(WIDEST_LAYER, size):
                # A layer that was too full once is passed over from then on, and so are those found full behind it.
                beyond[level] = beyond.get(level, level + step)
                beyond[level] = beyond.get(beyond[level], beyond[level])
                level = beyond[level]
            layer[node] = level
            width[level] = width.get(level, 0.0) + size
    first = min(layer)
    layer[:] = [level - first for level in layer]


def _levels(graph: Layered, sizes: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the top and the bottom of each layer."""
    heights = [0.0] * (max(graph.layer) + 1)
    for vertex, level in enumerate(graph.layer):
        heights[level] = max(heights[level], sizes[vertex][1])
    levels: list[tuple[float, float]] = []
    for height in heights:
        top = levels[-1][1] + LAYER_GAP if levels else 0.0
        levels.append((top, top + height))
    return levels


def _route(
    graph: Layered,
    edge: Pair,
    place: int,
    x: list[float],
    levels: list[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
) -> list[Point]:
    """Return the bends of an edge: upright within a layer, so that it passes beside what stands there."""
    source, target = edge
    chain = graph.chains[place]
    if chain is None:
        return []
    points: list[Point] = []
    top, bottom = levels[graph.layer[source]]
    if sizes[source][1] < bottom - top:
        points.append((x[source], bottom))
    for dummy in chain:
        points += [(x[dummy], side) for side in dict.fromkeys(levels[graph.layer[dummy]])]
    top, bottom = levels[graph.layer[target]]
    if sizes[target][1] < bottom - top:
        points.append((x[target], top))
    return _without_needless(points, x[source], x[target])


def _without_needless(points: list[Point], first: float, last: float) -> list[Point]:
    """Return the points without those inside a straight upright line."""
    xs = [first, *(point[0] for point in points), last]
    turns = [
        not (math.isclose(xs[index], xs[index + 1]) and math.isclose(xs[index + 1], xs[index + 2]))
        for index in range(len(points))
    ]
    # A curve is drawn through them: the point beside a turn keeps it upright until there.
    beside = [True, *turns, True]
    return [point for index, point in enumerate(points) if any(beside[index : index + 3])]


def _rows(sizes: Sequence[tuple[float, float]], nodes: Sequence[int]) -> Placed:
    """Return nodes without edges in rows from left to right, in order of time."""
    chosen = list(nodes) or list(range(len(sizes)))
    area = sum((sizes[node][0] + GRID_GAP) * (sizes[node][1] + GRID_GAP) for node in chosen)
    limit = max([math.sqrt(area * _ASPECT), *(sizes[node][0] for node in chosen)], default=0.0)
    centres: list[Point] = []
    x = y = row = width = 0.0
    for node in chosen:
        if x and x + sizes[node][0] > limit:
            x, y, row = 0.0, y + row + GRID_GAP, 0.0
        centres.append((x + sizes[node][0] / 2, y + sizes[node][1] / 2))
        x += sizes[node][0] + GRID_GAP
        row = max(row, sizes[node][1])
        width = max(width, x - GRID_GAP)
    return Placed(centres, width, y + row, [], [])


def _joined(sizes: Sequence[tuple[float, float]], linked: list[int], lone: list[int], core: Placed) -> Placed:
    """Return the layered nodes with the lone ones at their right: below, they would stand in the way out."""
    rows = _rows(sizes, lone) if lone else Placed([], 0.0, 0.0, [], [])
    # Beside a tall graph a column is better than a square.
    shift = core.width + 2 * NODE_GAP
    centres: list[Point] = [(0.0, 0.0)] * len(sizes)
    for node, centre in zip(linked, core.centres, strict=True):
        centres[node] = centre
    for node, (x, y) in zip(lone, rows.centres, strict=True):
        centres[node] = (x + shift, y)
    height = max(core.height, rows.height)
    exits = {linked[node]: [*way[:-1], (way[-1][0], height)] for node, way in core.exits.items()}
    return Placed(
        centres=centres,
        width=core.width + (2 * NODE_GAP + rows.width if lone else 0.0),
        height=height,
        bends=core.bends,
        backward=core.backward,
        entries={linked[node]: way for node, way in core.entries.items()},
        exits=exits,
    )
