"""Self time by module of the model."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from analyzer.graph import Graph

OUTSIDE = "(outside of modules)"


@dataclass(frozen=True, slots=True)
class ModuleTime:
    """Seconds of all timed ops in a module, its submodules included. depth counts the listed modules around it."""

    path: str
    depth: int
    seconds: float
    ops: int
    share: float


def module_times(graph: Graph, depth: int = 3, limit: int = 16) -> tuple[ModuleTime, ...]:
    """Return the modules in tree order, down to `depth`; of more than `limit`, those that take most time."""
    seconds: dict[str, float] = defaultdict(float)
    ops: dict[str, int] = defaultdict(int)
    total = 0.0
    for op in graph.ops:
        if op.self_seconds is None:
            continue
        total += op.self_seconds.median
        for path in _ancestors(op.scope, depth):
            seconds[path] += op.self_seconds.median
            ops[path] += 1
    kept = sorted(_branching(ops), key=lambda path: -seconds[path])[:limit]
    shown = set(kept)
    rows = (
        ModuleTime(
            path,
            sum(ancestor in shown for ancestor in _above(path)),
            seconds[path],
            ops[path],
            seconds[path] / total if total else 0.0,
        )
        for path in kept
    )
    return tuple(sorted(rows, key=lambda row: _tree_key(row.path, seconds)))


def _branching(ops: dict[str, int]) -> list[str]:
    """Return the paths without those whose ops are all in one submodule: its own row says as much."""
    covered = {_above(path)[-1] for path in ops if _above(path) and ops[_above(path)[-1]] == ops[path]}
    return [path for path in ops if path not in covered]


def _above(path: str) -> list[str]:
    """Return the modules around `path`, the outermost first."""
    return [] if path == OUTSIDE else _ancestors(path, len(path))[:-1]


def _ancestors(scope: str, depth: int) -> list[str]:
    if not scope:
        return [OUTSIDE]
    parts = scope.split(".")[:depth]
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _tree_key(path: str, seconds: dict[str, float]) -> tuple[tuple[float, str], ...]:
    """Sort siblings by time, each below its parent."""
    return tuple((-seconds[step], step) for step in (*_above(path), path))
