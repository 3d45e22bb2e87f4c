"""`hotbench compare A B`: is B faster than A, and which ops differ."""

from __future__ import annotations

import argparse

from app.terminal import Terminal

NAME = "compare"
HELP = "compare two runs: which is faster, and which ops differ"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add both runs."""
    parser.add_argument("before", metavar="A", help='a run\'s id, a beginning of it, or "latest"')
    parser.add_argument("after", metavar="B", help="the run to compare with it")


def run(options: argparse.Namespace) -> int:
    """Compare; 1 when B is slower than A or its answers differ, else 0."""
    from app import tables, workbench
    from app.comparison import comparison_summary
    from app.store import open_store

    terminal = Terminal(options.json)
    with open_store(options.store) as store, terminal.progress("compare") as progress:
        comparison = workbench.compare(store, options.before, options.after, progress)
    terminal.result(comparison_summary(comparison), tables.comparison(comparison))
    return 1 if comparison.verdict in ("slower", "refused") else 0
