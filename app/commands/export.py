"""`hotbench export EXPERIMENT -o DIR`: the optimized model as a folder that loads without Hotbench."""

from __future__ import annotations

import argparse
from pathlib import Path

from app.terminal import Terminal

NAME = "export"
HELP = "write an experiment's optimized model into a folder of its own"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the experiment and the folder."""
    parser.add_argument("experiment", metavar="EXPERIMENT", help='an experiment\'s id, a beginning of it, or "latest"')
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="the artifact's folder")


def run(options: argparse.Namespace) -> int:
    """Export; print what was written and how to load it."""
    from app import tables, workbench
    from app.store import open_store

    terminal = Terminal(options.json)
    with open_store(options.store) as store, terminal.progress("export"):
        data = workbench.export(store, options.experiment, options.output)
    terminal.result(data, tables.artifact(data))
    terminal.show("", tables.next_commands("Load it", ["import runpy", data["loads_with"]]))
    return 0
