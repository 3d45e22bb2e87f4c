"""Make all derived files of a run before anybody asks for them."""

from __future__ import annotations

from collections.abc import Callable

from analyzer.errors import HotbenchError
from app.derived.hierarchy import read_hierarchy
from app.derived.ops import open_ops
from app.store import Store


def prepare(store: Store, run_id: str) -> None:
    """Make the table of ops and the graph's tree of a run, where they are missing; the first visit is then fast."""
    with open_ops(store, run_id):
        read_hierarchy(store, run_id)


def prepare_or_tell(store: Store, run_id: str, tell: Callable[[str], None]) -> None:
    """Do the same; where that fails, `tell` the reason in a line: the run is saved, and a page makes what it misses."""
    try:
        prepare(store, run_id)
    except (HotbenchError, OSError) as error:
        tell(f"the pages of {run_id} will be made at their first visit: {error}")
