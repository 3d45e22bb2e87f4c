"""Make all derived files of a run before anybody asks for them."""

from __future__ import annotations

from app.derived.hierarchy import read_hierarchy
from app.derived.ops import open_ops
from app.store import Store


def prepare(store: Store, run_id: str) -> None:
    """Make the table of ops and the graph's tree of a run, where they are missing; the first visit is then fast."""
    with open_ops(store, run_id):
        read_hierarchy(store, run_id)
