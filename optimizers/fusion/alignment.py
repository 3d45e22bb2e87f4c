"""Which op of a captured run each op of a traced graph is: both list the same step, one before and one while it ran."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.costs import is_view
from analyzer.graph import Graph, Op

WINDOW = 64
"""So many ops of the run may lie between two that follow each other in the graph."""
NOT_FOUND = -1
_SAME = {
    "_native_batch_norm_legit_no_training": "batch_norm",
    "_native_batch_norm_legit": "batch_norm",
    "native_batch_norm": "batch_norm",
    "native_layer_norm": "layer_norm",
    "copy": "clone",
    "_to_copy": "clone",
    "contiguous": "clone",
}


def align(ops: Sequence[tuple[str, str]], graph: Graph, phases: Sequence[str] = ()) -> tuple[int, ...]:
    """Return, for each op of a traced graph, the index of the run's op that is the same one, or NOT_FOUND.

    ops: (name of the node, name of the op) in order, views left out. phases: of the run's ops that come into
    question; all of them by default. Names are compared in order, a few ops on either side may have no partner.
    """
    run = [op for op in graph.ops if op.executes and not is_view(op.name) and (not phases or op.phase in phases)]
    names = [_names(op, graph) for op in run]
    found = []
    at = 0
    for _, name in ops:
        wanted = _normal(name)
        match = next((k for k in range(at, min(at + WINDOW, len(run))) if wanted in names[k]), None)
        found.append(NOT_FOUND if match is None else run[match].index)
        at = at if match is None else match + 1
    return tuple(found)


def _names(op: Op, graph: Graph) -> frozenset[str]:
    """Return the names under which a graph may know an op: its own, and those of the ATen ops that called it."""
    found = {_normal(op.name)}
    above = op.parent
    while above >= 0 and graph.ops[above].name.startswith("aten::"):
        found.add(_normal(graph.ops[above].name))
        above = graph.ops[above].parent
    return frozenset(found)


def _normal(name: str) -> str:
    base = name.rpartition("::")[2]
    base = base[:-1] if base.endswith("_") and not base.endswith("__") else base
    return _SAME.get(base, base)
