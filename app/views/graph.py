"""Which nodes of the graph are open, and what opening, closing and finding one does to that."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, replace

from app.derived.hierarchy import Hierarchy
from app.units import printable

MOST_VISIBLE = 500
"""A browser draws so many nodes in about a second; more are not shown at once."""
LISTS = ("position", "range")
"""Kinds whose members stand beside each other, without an order of data between them."""
_FIRST_VISIBLE = 48
_FIRST_KINDS = ("run", "phase", "module", "repeat")
_FIRST_SHARE = 0.04
_ALMOST_NOTHING = 4


@dataclass(frozen=True, slots=True)
class View:
    """What a person has opened: the node that is the whole picture, and the open ones below it."""

    root: int = 0
    opened: frozenset[int] = frozenset((0,))


@dataclass(frozen=True, slots=True)
class Change:
    """A view after an act, what is to be said of it, and the node that may be opened on its own instead."""

    view: View
    message: str = ""
    alone: int | None = None


def first_view(hierarchy: Hierarchy, root: int = 0) -> View:
    """Return the view of `root` with its hottest groups open, as many as are read at a glance."""
    opened = {root}
    shown = hierarchy.child_count(root)
    waiting = [(-hierarchy.seconds[child], child) for child in hierarchy.children(root)]
    heapq.heapify(waiting)
    total = hierarchy.seconds[root] or 1.0
    while waiting:
        seconds, node = heapq.heappop(waiting)
        more = hierarchy.child_count(node)
        lone = shown <= _ALMOST_NOTHING
        if hierarchy.kinds[node] not in _FIRST_KINDS or not more:
            continue
        if shown - 1 + more > (2 * _FIRST_VISIBLE if lone else _FIRST_VISIBLE) or (
            -seconds / total < _FIRST_SHARE and not lone
        ):
            continue
        opened.add(node)
        shown += more - 1
        for child in hierarchy.children(node):
            heapq.heappush(waiting, (-hierarchy.seconds[child], child))
    return View(root, frozenset(opened))


def visible_count(hierarchy: Hierarchy, view: View) -> int:
    """Return how many nodes a view shows, boxes included."""
    return len(shown_nodes(hierarchy, view))


def expand(hierarchy: Hierarchy, view: View, node: int) -> Change:
    """Return the view with one more node open, or the same with the reason why not."""
    if hierarchy.is_leaf(node) or node in view.opened:
        return Change(view)
    wider = replace(view, opened=view.opened | {node})
    count = visible_count(hierarchy, wider)
    if count <= MOST_VISIBLE:
        return Change(wider)
    label = printable(hierarchy.labels[node])
    return Change(
        view,
        f"With {label} open there would be {count:,} nodes, more than the {MOST_VISIBLE} that stay readable. "
        "Close another group first, or open this one on its own.",
        node,
    )


def collapse(hierarchy: Hierarchy, view: View, node: int) -> Change:
    """Return the view with a node and everything in it closed; the root stays open."""
    if node == view.root:
        return Change(view)
    inside = range(node, int(hierarchy.end[node]))
    return Change(replace(view, opened=frozenset(other for other in view.opened if other not in inside)))


def open_alone(hierarchy: Hierarchy, node: int) -> Change:
    """Return the view of one node and nothing else."""
    if hierarchy.is_leaf(node):
        return Change(first_view(hierarchy, int(max(hierarchy.parent[node], 0))))
    return Change(first_view(hierarchy, node))


def reveal(hierarchy: Hierarchy, view: View, node: int, through_lists: bool = True) -> Change:
    """Return a view that shows `node`: what is above it is open; without `through_lists` only to the list it is in."""
    above = hierarchy.ancestors(node)
    if not through_lists:
        lists = [place for place, other in enumerate(above) if hierarchy.kinds[other] in LISTS]
        above = above[: lists[0]] if lists else above
    if view.root not in above and node != view.root:
        view = first_view(hierarchy)
    needed = frozenset(other for other in above if other >= view.root)
    wider = replace(view, opened=view.opened | needed)
    if visible_count(hierarchy, wider) <= MOST_VISIBLE:
        return Change(wider)
    return Change(View(view.root, needed), "Other groups were closed to make room for it.")


def node_of(hierarchy: Hierarchy, op: int | None, module: str | None) -> int | None:
    """Return the node of an op, else of a module; None if there is none such."""
    if op is not None:
        if not 0 <= op < len(hierarchy.node_of_op):
            return None
        node = int(hierarchy.node_of_op[op])
        # What an op does itself stands for the op only where the call is open; the call is what a person means.
        return int(hierarchy.parent[node]) if hierarchy.kinds[node] == "own" else node
    return hierarchy.module(module) if module else None


def search(hierarchy: Hierarchy, text: str, most: int = 8) -> list[int]:
    """Return the nodes with `text` in label, module or line, the hottest first, groups before what is in them."""
    wanted = text.strip().lower()
    if not wanted:
        return []
    found = [
        node
        for node in range(1, len(hierarchy.kinds))
        if wanted in hierarchy.labels[node].lower()
        or (hierarchy.kinds[node] == "module" and wanted in hierarchy.paths[node].lower())
        or (hierarchy.kinds[node] == "line" and wanted in hierarchy.sources[node].lower())
    ]
    return heapq.nsmallest(most, found, key=lambda node: (-hierarchy.seconds[node], node))


def shown_place(hierarchy: Hierarchy, view: View, node: int) -> int | None:
    """Return the node on the screen that is `node` or holds it; None if it is outside the picture."""
    inside = view.root <= node < int(hierarchy.end[view.root])
    if not inside or node == view.root:
        return None
    for other in [*hierarchy.ancestors(node), node]:
        if other > view.root and other not in view.opened:
            return other
    return node


def read_view(hierarchy: Hierarchy, data: object) -> View:
    """Return the view that a browser holds; the first one for anything that is none of this run."""
    if isinstance(data, dict):
        root, opened = data.get("root"), data.get("opened")
        if isinstance(root, int) and isinstance(opened, list) and _holds(hierarchy, [root, *opened]):
            return View(root, frozenset(opened) | {root})
    return first_view(hierarchy)


def write_view(view: View) -> dict[str, object]:
    """Return a view as a browser holds it."""
    return {"root": view.root, "opened": sorted(view.opened)}


def _holds(hierarchy: Hierarchy, nodes: Iterable[object]) -> bool:
    return all(
        isinstance(node, int) and 0 <= node < len(hierarchy.kinds) and not hierarchy.is_leaf(node) for node in nodes
    )


def shown_nodes(hierarchy: Hierarchy, view: View) -> list[int]:
    """Return the nodes on the screen in preorder; the root itself is the picture, and not on it."""
    shown: list[int] = []
    stack = list(hierarchy.children(view.root))[::-1]
    while stack:
        node = stack.pop()
        shown.append(node)
        if node in view.opened:
            stack += list(hierarchy.children(node))[::-1]
    return shown
