"""`hotbench show RUN`: hot ops, kernels and memory of a captured run."""

from __future__ import annotations

import argparse

from app.commands.profile import _count
from app.terminal import Terminal

NAME = "show"
HELP = "print a run's hot ops, kernels and memory"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the run and how much to print."""
    parser.add_argument("run", metavar="RUN", help='a run\'s id, a beginning of it, or "latest"')
    parser.add_argument("--ops", type=_count, default=20, metavar="N", help="ops to list (default: 20)")


def run(options: argparse.Namespace) -> int:
    """Print the summary."""
    from analyzer.summary import show_summary
    from app import tables, workbench
    from app.store import open_store

    terminal = Terminal(options.json)
    with open_store(options.store) as store:
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
