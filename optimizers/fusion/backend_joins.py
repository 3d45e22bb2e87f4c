"""Concatenations of the same tensors become one: the others are rows of it, and no tensor is stored twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

aten = torch.ops.aten
Node = Any
"""A torch.fx.Node, as in backend_accumulate.py."""


def share_joins(graph: torch.fx.Graph, new: Iterable[Node]) -> None:
    """Let concatenations along the first axis, whose parts stand side by side in a longer one, be slices of that.

    new: the nodes to look at, none of which leaves the graph: results must not share memory.
    """
    joins = sorted(filter(_is_join, new), key=lambda node: -len(node.args[0]))
    kept: list[Node] = []
    for join in joins:
        found = next(((host, at) for host in kept if (at := _position(host.args[0], join.args[0])) is not None), None)
        if found is None:
            kept.append(join)
        else:
            _replace(graph, join, *found)
    if len(kept) < len(joins):
        _sort(graph)


def _is_join(node: Node) -> bool:
    axis = node.args[1] if len(node.args) > 1 else 0
    return node.target is aten.cat.default and axis == 0 and not node.kwargs


def _position(parts: Sequence[Node], wanted: Sequence[Node]) -> int | None:
    """Return where the wanted parts begin among these, one after the other; None where they do not stand so."""
    starts = range(len(parts) - len(wanted) + 1)
    return next((start for start in starts if list(parts[start : start + len(wanted)]) == list(wanted)), None)


def _replace(graph: torch.fx.Graph, join: Node, host: Node, position: int) -> None:
    """Read a join as rows of another one, which stands after it in the graph until that is sorted."""
    value, parts = join.meta["val"], host.args[0]
    begin = sum(part.meta["val"].shape[0] for part in parts[:position])
    if value.shape == host.meta["val"].shape:
        join.replace_all_uses_with(host)
    else:
        with graph.inserting_after(host):
            rows = graph.call_function(aten.slice.Tensor, (host, 0, begin, begin + value.shape[0]))
        rows.meta["val"] = host.meta["val"][begin : begin + value.shape[0]]
        join.replace_all_uses_with(rows)
    graph.erase_node(join)


def _sort(graph: torch.fx.Graph) -> None:
    """Move each node behind what it reads; all others keep their order."""
    last: Node = None
    done: set[Node] = set()
    waiting: dict[Node, list[Node]] = {}

    def place(node: Node) -> None:
        nonlocal last
        ready = [node]
        while ready:
            node = ready.pop()
            missing = next((read for read in node.all_input_nodes if read not in done), None)
            if missing is not None:
                waiting.setdefault(missing, []).append(node)
                continue
            if last is not None:
                last.append(node)
            last = node
            done.add(node)
            ready += reversed(waiting.pop(node, []))

    for node in list(graph.nodes):
        place(node)
