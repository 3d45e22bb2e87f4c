"""`hotbench keep EXPERIMENT`: mark what an experiment proved as a run's answer, or end that mark."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from analyzer.errors import HotbenchError
from app.terminal import Terminal
from app.units import printable

if TYPE_CHECKING:
    from app.store import Entry, Store

NAME = "keep"
HELP = "keep a proven experiment for its run, or undo that"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the experiment."""
    parser.add_argument("experiment", metavar="EXPERIMENT", help='an experiment\'s id, a beginning of it, or "latest"')
    parser.add_argument("--undo", action="store_true", help="end the mark; who set it and who ended it stays on record")


def run(options: argparse.Namespace) -> int:
    """Keep or undo; 1 when the verdict proved nothing to keep."""
    from app.store import keeps, open_store

    terminal = Terminal(options.json)
    with open_store(options.store) as store:
        entry = store.find(options.experiment, ("experiment",))
        about = _run_of(store, entry)
        data: dict[str, Any] = {"run": about.id, "experiment": entry.id, "verdict": keeps.verdict_of(store, entry)}
        if options.undo:
            return _undo(terminal, store, data)
        if data["verdict"] not in keeps.PROVEN:
            reason = f"it ended {data['verdict']!r}: only what is proven faster or smaller is kept"
            terminal.result({**data, "kept": False, "reason": reason}, f"{entry.id} is not kept: {reason}")
            return 1
        mark = keeps.keep(store, about.id, entry.id, _author())
    words = f"{entry.id} ({data['verdict']}) is kept for {about.id}  {printable(about.name)}, by {mark.user}"
    terminal.result({**data, "kept": True, "user": mark.user, "created": mark.created}, words)
    return 0


def _undo(terminal: Terminal, store: Store, data: dict[str, Any]) -> int:
    from app.store import keeps

    who = _author()
    if not keeps.undo(store, data["run"], data["experiment"], who):
        raise HotbenchError(f"{data['experiment']} is not kept for {data['run']}: there is nothing to undo")
    words = f"{data['experiment']} is not kept any more; keep it again with the same command without --undo"
    terminal.result({**data, "kept": False, "user": who}, words)
    return 0


def _author() -> str:
    from app.author import command_line_author

    return command_line_author()


def _run_of(store: Store, entry: Entry) -> Entry:
    parent = store.get(entry.parent or "")
    if parent.kind != "candidate" or parent.parent is None:
        raise HotbenchError(f"{entry.id} compares two runs: it has no candidate to keep")
    return store.get(parent.parent)
