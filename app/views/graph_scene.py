"""A view of the graph, laid out: every node and edge on the screen, and where it stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from app.derived.hierarchy import Hierarchy
from app.derived.layout.layered import Placed, Point, lay_out
from app.units import percent, printable, quantity
from app.views.graph import LISTS, View, shown_nodes

_BOX_PAD, _BOX_HEAD = 20.0, 40.0
_LONGEST_LABEL = 30
_NARROWEST, _LETTER, _SMALL_LETTER = 104.0, 7.6, 6.5
_LOWEST, _TALLER = 46.0, 26.0


@dataclass(frozen=True, slots=True)
class ShownNode:
    """A node on the screen; x and y are its centre. `opened`: it is a box around its children."""

    node: int
    label: str
    figures: str
    x: float
    y: float
    width: float
    height: float
    share: float
    opened: bool
    depth: int


@dataclass(frozen=True, slots=True)
class ShownEdge:
    """All data from one shown node to another. `backward`: it is read in the next turn of a loop."""

    source: int
    target: int
    tensors: int
    nbytes: int
    bends: tuple[Point, ...]
    backward: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything on the screen. `hottest` is the largest share among the nodes that are no boxes."""

    nodes: tuple[ShownNode, ...]
    edges: tuple[ShownEdge, ...]
    width: float
    height: float
    hottest: float


def make_scene(hierarchy: Hierarchy, view: View) -> Scene:
    """Return everything that a view shows, laid out."""
    shown = shown_nodes(hierarchy, view)
    boxes = [node for node in shown if node in view.opened]
    leaves = [node for node in shown if node not in view.opened]
    sums = _edges(hierarchy, view, leaves)
    ways = _ways(hierarchy, view, sums)
    total = float(hierarchy.seconds[0]) or 1.0
    hottest = max((float(hierarchy.seconds[node]) / total for node in leaves), default=0.0)
    sizes = {node: _size(hierarchy, node, hottest, total) for node in leaves}
    placed: dict[int, Placed] = {}
    # The innermost boxes first: a box needs the size of those in it.
    for box in [*reversed(boxes), view.root]:
        placed[box] = _lay_out_box(hierarchy, box, ways, sizes)
        sizes[box] = _box_size(placed[box], printable(hierarchy.labels[box]))
    centres, origins = _absolute(hierarchy, view, [view.root, *boxes], placed, sizes)
    depth = {view.root: 0}
    nodes = []
    for node in shown:
        depth[node] = depth[int(hierarchy.parent[node])] + 1
        label, figures = node_texts(hierarchy, node)
        nodes.append(
            ShownNode(
                node, label, figures, *centres[node], *sizes[node], float(hierarchy.seconds[node]) / total,
                node in view.opened, depth[node],
            )
        )  # fmt: skip
    edges = [_shown_edge(pair, values, ways, placed, origins) for pair, values in sums.items()]
    return Scene(tuple(nodes), tuple(edges), placed[view.root].width, placed[view.root].height, hottest)


def node_texts(hierarchy: Hierarchy, node: int) -> tuple[str, str]:
    """Return a node's two lines: its label with its turns, its share with its time."""
    label = printable(hierarchy.labels[node])
    if len(label) > _LONGEST_LABEL:
        label = f"…{label[1 - _LONGEST_LABEL :]}" if "." in label else f"{label[: _LONGEST_LABEL - 1]}…"
    if hierarchy.times[node] > 1:
        label = f"{label}  ×{hierarchy.times[node]:,}"
    return label, figures(hierarchy, node)


def figures(hierarchy: Hierarchy, node: int) -> str:
    """Return a node's share of the step's self time, and the time itself."""
    if not hierarchy.timed[node]:
        return "not timed"
    seconds = float(hierarchy.seconds[node])
    return f"{percent(seconds / (float(hierarchy.seconds[0]) or 1.0))} · {quantity(seconds, 's')}"


def _size(hierarchy: Hierarchy, node: int, hottest: float, total: float) -> tuple[float, float]:
    """Return (width, height): wide enough for the text, taller the hotter it is."""
    label, small = node_texts(hierarchy, node)
    width = max(_NARROWEST, _LETTER * len(label) + 28, _SMALL_LETTER * len(small) + 28)
    heat = float(hierarchy.seconds[node]) / total / hottest if hottest else 0.0
    return round(width), round(_LOWEST + _TALLER * heat)


def _box_size(placed: Placed, label: str) -> tuple[float, float]:
    """Return (width, height) of a box around its layout, its heading included."""
    heading = _LETTER * min(len(label) + 26, 60)
    return max(placed.width, heading) + 2 * _BOX_PAD, placed.height + _BOX_HEAD + _BOX_PAD


Pair = tuple[int, int]


def _edges(hierarchy: Hierarchy, view: View, leaves: list[int]) -> dict[Pair, tuple[int, int]]:
    """Return (tensors, bytes) that flow between shown leaves, each tensor counted once for a pair."""
    place = np.full(len(hierarchy.kinds), -1, dtype=np.int64)
    outside = place.copy()
    for leaf in leaves:
        place[leaf : hierarchy.end[leaf]] = leaf
        outside[leaf : hierarchy.end[leaf]] = _seen_from_outside(hierarchy, view, leaf)
    source, target = outside[hierarchy.edge_source], outside[hierarchy.edge_target]
    together = source == target
    source = np.where(together, place[hierarchy.edge_source], source)
    target = np.where(together, place[hierarchy.edge_target], target)
    keep = (source >= 0) & (target >= 0) & (source != target)
    pair = source[keep] * len(place) + target[keep]
    order = np.lexsort((hierarchy.edge_tensor[keep], pair))
    pair, tensor, nbytes = pair[order], hierarchy.edge_tensor[keep][order], hierarchy.edge_bytes[keep][order]
    once = np.ones(len(pair), dtype=bool)
    once[1:] = (pair[1:] != pair[:-1]) | (tensor[1:] != tensor[:-1])
    pairs, first = np.unique(pair[once], return_index=True)
    if not len(pairs):
        return {}
    counts = np.diff(np.append(first, once.sum()))
    sums = np.add.reduceat(nbytes[once], first)
    return {
        divmod(int(key), len(place)): (int(count), int(size))
        for key, count, size in zip(pairs, counts, sums, strict=True)
    }


def _seen_from_outside(hierarchy: Hierarchy, view: View, leaf: int) -> int:
    """Return the node where a leaf's edges end: an open list as a whole, or a hundred turns had a hundred lines."""
    above = hierarchy.ancestors(leaf)
    return next((node for node in above if node > view.root and hierarchy.kinds[node] in LISTS), leaf)


@dataclass(frozen=True, slots=True)
class _Ways:
    """How edges lead through boxes.

    paths:   for each pair the box that holds both ends, the nodes from its source out to that box, and from its target.
    edges:   for each box the edges between its children.
    entering, leaving: for each box the children with data from outside it, or for outside it.
    """

    paths: dict[Pair, tuple[int, list[int], list[int]]]
    edges: dict[int, dict[Pair, int]]
    entering: dict[int, dict[int, None]]
    leaving: dict[int, dict[int, None]]


def _ways(hierarchy: Hierarchy, view: View, pairs: Iterable[Pair]) -> _Ways:
    ways = _Ways({}, {}, {}, {})
    up: dict[int, list[int]] = {}

    def path(node: int) -> list[int]:
        if node not in up:
            parent = int(hierarchy.parent[node])
            up[node] = [node] if parent == view.root else [node, *path(parent)]
        return up[node]

    for source, target in pairs:
        out, into = path(source), path(target)
        common = 0
        while out[-1 - common] == into[-1 - common]:
            common += 1
        out, into = out[: len(out) - common], into[: len(into) - common]
        box = int(hierarchy.parent[out[-1]])
        ways.paths[source, target] = (box, out, into)
        inside = ways.edges.setdefault(box, {})
        inside.setdefault((out[-1], into[-1]), len(inside))
        for way, sides in ((out, ways.leaving), (into, ways.entering)):
            for node in way[:-1]:
                sides.setdefault(int(hierarchy.parent[node]), {})[node] = None
    return ways


def _lay_out_box(hierarchy: Hierarchy, box: int, ways: _Ways, sizes: dict[int, tuple[float, float]]) -> Placed:
    children = list(hierarchy.children(box))
    number = {child: index for index, child in enumerate(children)}
    edges = [(number[source], number[target]) for source, target in ways.edges.get(box, {})]
    entering = sorted(number[node] for node in ways.entering.get(box, {}))
    leaving = sorted(number[node] for node in ways.leaving.get(box, {}))
    found = lay_out([sizes[child] for child in children], edges, entering, leaving)
    return replace(
        found,
        entries={children[node]: way for node, way in found.entries.items()},
        exits={children[node]: way for node, way in found.exits.items()},
    )


def _absolute(
    hierarchy: Hierarchy, view: View, boxes: list[int], placed: dict[int, Placed], sizes: dict[int, tuple[float, float]]
) -> tuple[dict[int, Point], dict[int, Point]]:
    """Return every node's centre, and for each box where the corner of its layout lies."""
    centres: dict[int, Point] = {}
    origins: dict[int, Point] = {view.root: (0.0, 0.0)}
    for box in boxes:
        if box != view.root:
            x, y = centres[box]
            width, height = sizes[box]
            # A heading longer than the content leaves room at both sides.
            inset = (width - placed[box].width) / 2
            origins[box] = (x - width / 2 + inset, y - height / 2 + _BOX_HEAD)
        left, top = origins[box]
        for child, (x, y) in zip(hierarchy.children(box), placed[box].centres, strict=True):
            centres[child] = (left + x, top + y)
    return centres, origins


def _shown_edge(
    pair: Pair, values: tuple[int, int], ways: _Ways, placed: dict[int, Placed], origins: dict[int, Point]
) -> ShownEdge:
    """Return an edge with its way: out of the boxes around its source, across, into those around its target."""
    box, out, into = ways.paths[pair]
    place = ways.edges[box][out[-1], into[-1]]
    backward = placed[box].backward[place]
    points: list[Point] = []
    if not backward:
        for node, parent in pairwise(out):
            points += _moved(placed[parent].exits.get(node, ()), origins[parent])
    points += _moved(placed[box].bends[place], origins[box])
    if not backward:
        for node, parent in reversed(list(pairwise(into))):
            points += _moved(placed[parent].entries.get(node, ()), origins[parent])
    return ShownEdge(pair[0], pair[1], values[0], values[1], tuple(points), backward)


def _moved(way: Iterable[Point], origin: Point) -> list[Point]:
    return [(x + origin[0], y + origin[1]) for x, y in way]
