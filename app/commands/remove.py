"""`hotbench remove RUN…`: runs that nothing was made from."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from analyzer.errors import HotbenchError
from app.terminal import Terminal
from app.units import printable

if TYPE_CHECKING:
    from app.store import Entry, Store

NAME = "remove"
HELP = "remove runs that nothing was made from; it does not ask"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the runs."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's id, or a beginning of it")


def run(options: argparse.Namespace) -> int:
    """Remove all of them or none; print what was removed."""
    from app.derived.place import discard_run
    from app.store import open_store

    terminal = Terminal(options.json)
    with open_store(options.store) as store:
        chosen = _chosen(store, options.runs)
        for entry in chosen:
            if not discard_run(store, entry):
                raise HotbenchError(f"{entry.id} stays: something was made from it while this ran")
    lines = [f"removed {entry.id}  {printable(entry.name)}, captured {entry.created[:16]} UTC" for entry in chosen]
    removed = [{"id": entry.id, "name": entry.name, "created": entry.created} for entry in chosen]
    terminal.result({"removed": removed}, *lines)
    return 0


def _chosen(store: Store, texts: list[str]) -> tuple[Entry, ...]:
    """Return the runs, each once. Raises HotbenchError where one of them has to stay."""
    from app.store.lookup import LATEST

    if LATEST in texts:
        raise HotbenchError(f"{LATEST!r} may be another run by now; name what to remove by its id")
    found = tuple({entry.id: entry for entry in (store.find(text, ("run",)) for text in texts)}.values())
    everything = store.entries()
    for entry in found:
        made = [other.id for other in everything if other.parent == entry.id]
        if made:
            more = f" and {len(made) - 1} more" if len(made) > 1 else ""
            raise HotbenchError(f"{entry.id} stays: {made[0]}{more} was made from it; nothing was removed")
    return found
