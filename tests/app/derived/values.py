"""Runs saved in a store for tests of derived files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analyzer.run import Run, save_run, with_content_id
from app.store import Store
from tests.synthetic import Call, make_run

CELL = (("aten::mm", 8e-6), ("aten::add", 1e-6), ("aten::sigmoid", 1e-6), ("aten::mul", 1e-6))


def unrolled(turns: int, scope: str = "") -> list[Call]:
    """Return a loop of four ops after an op of its own; each op reads the one before it."""
    calls = [Call("aten::zeros", 2e-6)]
    for _ in range(turns):
        for name, seconds in CELL:
            calls.append(Call(name, seconds, reads=(len(calls) - 1,), scope=scope))
    return calls


def stored(store: Store, calls: Sequence[Call], lines: int = 0) -> Run:
    """Save a run of these calls. With `lines` the source lines repeat: op i stands on line 1 + (i - 1) % lines."""
    return save(store, with_lines(make_run(calls), lines) if lines else make_run(calls))


def save(store: Store, run: Run) -> Run:
    """Save a run and return it with its id."""
    run = with_content_id(run)
    store.save("run", lambda folder: save_run(run, folder), name=run.name, summary={"ops": len(run.graph.ops)})
    return run


def with_lines(run: Run, lines: int) -> Run:
    """Return the run with source lines that repeat, as a loop's do."""
    ops = tuple(replace(op, source=f"model.py:{1 + (op.index - 1) % lines}") for op in run.graph.ops)
    return replace(run, graph=replace(run.graph, ops=ops))
