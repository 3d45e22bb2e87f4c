"""`hotbench report RUN-or-EXPERIMENT -o FILE`: a report to send around."""

from __future__ import annotations

import argparse
from pathlib import Path

from app.terminal import Terminal

NAME = "report"
HELP = "write a run or an experiment as one HTML file or as Markdown"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the value and the file."""
    parser.add_argument("value", metavar="RUN-or-EXPERIMENT", help='an id, a beginning of it, or "latest"')
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="ends in .html or .md")


def run(options: argparse.Namespace) -> int:
    """Write the report; print the file's path."""
    from app import workbench
    from app.reports.write import check_target
    from app.store import open_store

    check_target(options.output)
    terminal = Terminal(options.json)
    with open_store(options.store) as store:
        file = workbench.report(store, options.value, options.output)
    terminal.result({"file": str(file)}, f"wrote {file}")
    return 0
