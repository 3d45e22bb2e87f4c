"""`hotbench show RUN`: hot ops, kernels and memory of a captured run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import HotbenchError
from app.commands.profile import _count
from app.terminal import Terminal

if TYPE_CHECKING:
    from app.store import Store

NAME = "show"
HELP = "print a run's hot ops, kernels and memory"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the run and how much to print."""
    parser.add_argument("run", metavar="RUN", help='a run\'s id, a beginning of it, or "latest"')
    parser.add_argument("--ops", type=_count, default=20, metavar="N", help="ops to list (default: 20)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write one row an op into this file instead")
    parser.add_argument(
        "--filter", metavar="TEXT", help="rows and order of the CSV, as the operators page's address has"
    )


def run(options: argparse.Namespace) -> int:
    """Print the summary, or write the ops as CSV."""
    from analyzer.summary import show_summary
    from app import tables, workbench
    from app.store import open_store

    terminal = Terminal(options.json)
    if options.filter is not None and options.csv is None:
        raise HotbenchError("--filter chooses the rows of a CSV: it goes with --csv FILE")
    with open_store(options.store) as store:
        if options.csv is not None:
            return _write(terminal, store, options)
        captured = workbench.read_run(store, options.run)
    summary = show_summary(captured, options.ops)
    terminal.result(
        summary,
        tables.run_lines(captured),
        "",
        tables.hot_ops(summary["ops"], terminal.width),
        tables.memory(summary["memory"]),
    )
    return 0


def _write(terminal: Terminal, store: Store, options: argparse.Namespace) -> int:
    from app.derived.ops_csv import write_csv
    from app.derived.query import read_query

    entry = store.find(options.run, ("run",))
    count = write_csv(store, entry.id, read_query(options.filter), options.csv)
    file = str(options.csv.absolute())
    terminal.result({"run": entry.id, "file": file, "rows": count}, f"wrote {count:,} rows to {file}")
    return 0
