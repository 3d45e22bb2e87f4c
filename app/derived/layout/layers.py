"""Which layer each node stands in, and the dummy nodes that carry long edges through the layers between.

Source: Sugiyama, Tagawa and Toda 1981, doi:10.1109/TSMC.1981.4308636.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Pair = tuple[int, int]
MOST_DUMMIES = 12_000
_ROUNDS = 3


@dataclass(frozen=True)
class Layered:
    """Nodes and dummies by layer.

    layer:  of each vertex: first the nodes, then the dummies.
    links:  pairs of vertices in neighbouring layers.
    chains: for each edge the dummies on its way, from source to target; None for an edge that is drawn straight.
    """

    nodes: int
    layer: list[int]
    links: list[Pair]
    chains: list[tuple[int, ...] | None]


def assign_layers(nodes: int, edges: Sequence[Pair]) -> list[int]:
    """Return a layer for each node so that every edge (source < target) leads down, most of them by one layer.

    Longest path first; then nodes move as far as their edges allow towards the side where they have more of them.
    """
    above: list[list[int]] = [[] for _ in range(nodes)]
    below: list[list[int]] = [[] for _ in range(nodes)]
    for source, target in edges:
        above[target].append(source)
        below[source].append(target)
    layer = [0] * nodes
    for node in range(nodes):
        if above[node]:
            layer[node] = 1 + max([layer[other] for other in above[node]])
    for _ in range(_ROUNDS):
        if not _shorten(layer, above, below):
            break
    return layer


def _shorten(layer: list[int], above: list[list[int]], below: list[list[int]]) -> bool:
    """Move nodes where that makes edges shorter in sum; return whether one moved."""
    moved = False
    for node in range(len(layer) - 1, -1, -1):
        if len(below[node]) > len(above[node]):
            lowest = min([layer[other] for other in below[node]]) - 1
            moved |= lowest != layer[node]
            layer[node] = lowest
    for node in range(len(layer)):
        if len(above[node]) > len(below[node]):
            highest = max([layer[other] for other in above[node]]) + 1
            moved |= highest != layer[node]
            layer[node] = highest
    return moved


def add_dummies(layer: Sequence[int], edges: Sequence[Pair]) -> Layered:
    """Return the graph with a dummy in each layer that an edge crosses; edges of one source share theirs.

    Beyond MOST_DUMMIES the longest edges get none, and are drawn straight.
    """
    nodes, levels = len(layer), list(layer)
    chains: list[tuple[int, ...] | None] = [None] * len(edges)
    links: set[Pair] = set()
    shared: dict[int, list[int]] = {}
    for place in sorted(range(len(edges)), key=lambda place: layer[edges[place][1]] - layer[edges[place][0]]):
        source, target = edges[place]
        length = layer[target] - layer[source] - 1
        chain = shared.setdefault(source, [])
        if len(levels) - nodes + length - len(chain) > MOST_DUMMIES:
            continue
        while len(chain) < length:
            chain.append(len(levels))
            levels.append(layer[source] + len(chain))
        way = tuple(chain[:length])
        chains[place] = way
        links.update(pairwise((source, *way, target)))
    return Layered(nodes, levels, sorted(links), chains)
