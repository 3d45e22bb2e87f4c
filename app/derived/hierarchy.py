"""A run's graph as a tree of groups with sums, and the edges between its leaves: arrays, made once, read fast."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.derived.columns import RunColumns, read_columns
from app.derived.grouping import Draft, draft_tree
from app.derived.place import derived_file
from app.store import Store

FORMAT_VERSION = 1
_KEPT = 4
_loaded: OrderedDict[Path, Hierarchy] = OrderedDict()
_lock = threading.Lock()
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Hierarchy:
    """The tree in preorder: a node's descendants are the nodes from it to `end[node]`, that one excluded.

    op:      the op that a node stands for; -1 for a group.
    seconds, flops, ops, timed: sums over a node's ops; `timed` counts those that have a time.
    first_op: the earliest op in it.
    node_of_op: for each op, the leaf (or the call that it is merged into) where its edges end.
    edge_*:  data that flows between two ops: nodes, tensor and bytes.
    """

    parent: Indices
    end: Indices
    op: Indices
    times: Indices
    first_op: Indices
    ops: Indices
    timed: Indices
    seconds: NDArray[np.float64]
    flops: NDArray[np.float64]
    node_of_op: Indices
    edge_source: Indices
    edge_target: Indices
    edge_tensor: Indices
    edge_bytes: Indices
    kinds: tuple[str, ...]
    labels: tuple[str, ...]
    paths: tuple[str, ...]
    sources: tuple[str, ...]

    def children(self, node: int) -> Iterator[int]:
        """Yield a node's children in order of time."""
        child, end = node + 1, int(self.end[node])
        while child < end:
            yield child
            child = int(self.end[child])

    def child_count(self, node: int) -> int:
        """Return how many children a node has."""
        return sum(1 for _ in self.children(node))

    def ancestors(self, node: int) -> list[int]:
        """Return the nodes above a node, the root first."""
        above = []
        while node > 0:
            node = int(self.parent[node])
            above.append(node)
        return above[::-1]

    def is_leaf(self, node: int) -> bool:
        """Return whether a node has no children."""
        return int(self.end[node]) == node + 1

    def module(self, path: str) -> int | None:
        """Return the node of a module: the first whose path is, or lies under, `path`; None if there is none."""
        below = f"{path}."
        for node, kind in enumerate(self.kinds):
            if kind == "module" and (self.paths[node] == path or self.paths[node].startswith(below)):
                return node
        return next((node for node, own in enumerate(self.paths) if path and own == path), None)


def read_hierarchy(store: Store, run_id: str) -> Hierarchy:
    """Return the run's tree, made first if it is missing; the latest few are kept in memory."""
    run_id = store.find(run_id, ("run",)).id

    def build(target: Path) -> None:
        save(make_hierarchy(read_columns(store, run_id)), target)

    path = derived_file(store, run_id, "graph.npz", FORMAT_VERSION, build)
    with _lock:
        known = _loaded.get(path)
        if known is not None:
            _loaded.move_to_end(path)
            return known
    hierarchy = load(path)
    with _lock:
        _loaded[path] = hierarchy
        while len(_loaded) > _KEPT:
            _loaded.popitem(last=False)
    return hierarchy


def make_hierarchy(columns: RunColumns) -> Hierarchy:
    """Return the tree of a run."""
    nodes, parents, ends = _flatten(draft_tree(columns))
    node_of_op, holder = _places(nodes, columns.ops.num_rows)
    seconds = columns.measured("self_seconds", "median")
    sources, targets, tensors = columns.edge("source"), columns.edge("target"), columns.edge("tensor")
    end = np.asarray(ends, dtype=np.int64)

    def summed(values: NDArray[Any]) -> NDArray[Any]:
        own = np.bincount(holder, weights=values, minlength=len(nodes))
        before = np.concatenate(([0.0], np.cumsum(own)))
        return np.asarray(before[end] - before[:-1])

    return Hierarchy(
        parent=np.asarray(parents, dtype=np.int64),
        end=end,
        op=np.asarray([node.op for node in nodes], dtype=np.int64),
        times=np.asarray([node.times for node in nodes], dtype=np.int64),
        first_op=np.asarray([node.first for node in nodes], dtype=np.int64),
        ops=np.rint(summed(np.ones(len(holder)))).astype(np.int64),
        timed=np.rint(summed(~np.isnan(seconds))).astype(np.int64),
        seconds=np.maximum(summed(np.nan_to_num(seconds)), 0.0),
        flops=np.maximum(summed(np.asarray(columns.numbers("flops"), dtype=np.float64)), 0.0),
        node_of_op=node_of_op,
        edge_source=node_of_op[sources],
        edge_target=node_of_op[targets],
        edge_tensor=tensors,
        edge_bytes=columns.tensor_bytes[tensors],
        kinds=tuple(node.kind for node in nodes),
        labels=tuple(node.label for node in nodes),
        paths=tuple(node.path for node in nodes),
        sources=tuple(node.source for node in nodes),
    )


def _flatten(root: Draft) -> tuple[list[Draft], list[int], list[int]]:
    """Return the nodes in preorder with their parents and ends; without recursion: calls may be deep."""
    nodes: list[Draft] = []
    parents: list[int] = []
    stack = [(root, -1)]
    while stack:
        draft, parent = stack.pop()
        index = len(nodes)
        nodes.append(draft)
        parents.append(parent)
        stack += [(child, index) for child in reversed(draft.children)]
    ends = list(range(1, len(nodes) + 1))
    for index in range(len(nodes) - 1, 0, -1):
        ends[parents[index]] = max(ends[parents[index]], ends[index])
    return nodes, parents, ends


def _places(nodes: list[Draft], ops: int) -> tuple[Indices, Indices]:
    """Return for each op where its edges end, and the node that its own time counts for."""
    ends, holder = np.zeros(ops, dtype=np.int64), np.zeros(ops, dtype=np.int64)
    for index, node in enumerate(nodes):
        for op in node.merged:
            ends[op] = holder[op] = index
        if node.op >= 0:
            # "own" comes after its op in preorder, and takes both over from it.
            ends[node.op] = holder[node.op] = index
    return ends, holder


_ARRAYS = (
    "parent", "end", "op", "times", "first_op", "ops", "timed", "seconds", "flops", "node_of_op", "edge_source",
    "edge_target", "edge_tensor", "edge_bytes",
)  # fmt: skip
_TEXTS = ("kinds", "labels", "paths", "sources")


def save(hierarchy: Hierarchy, path: Path) -> None:
    """Write the tree into a file."""
    texts = json.dumps({name: getattr(hierarchy, name) for name in _TEXTS}).encode()
    arrays = {name: getattr(hierarchy, name) for name in _ARRAYS}
    with path.open("wb") as stream:
        np.savez(stream, texts=np.frombuffer(texts, dtype=np.uint8), **arrays)


def load(path: Path) -> Hierarchy:
    """Return the tree that `save` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        texts = json.loads(stored["texts"].tobytes())
        fields: dict[str, Any] = {name: stored[name] for name in _ARRAYS}
        fields |= {name: tuple(texts[name]) for name in _TEXTS}
        return Hierarchy(**fields)
