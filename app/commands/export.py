"""`hotbench export EXPERIMENT -o DIR`: the optimized model, or one of its kernels, as a folder of its own."""

from __future__ import annotations

import argparse
from pathlib import Path

from app.terminal import Terminal

NAME = "export"
HELP = "write an experiment's optimized model, or one of its generated kernels, into a folder of its own"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the experiment and the folder."""
    parser.add_argument("experiment", metavar="EXPERIMENT", help='an experiment\'s id, a beginning of it, or "latest"')
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="the folder to write")
    parser.add_argument(
        "--region",
        metavar="NAME",
        help="only this generated kernel, as a folder that runs it by itself, checks it and times it",
    )


def run(options: argparse.Namespace) -> int:
    """Export; print what was written and how to load it."""
    from app import reproducers, tables, workbench
    from app.store import open_store

    terminal = Terminal(options.json)
    with open_store(options.store) as store, terminal.progress("export"):
        if options.region is not None:
            data = reproducers.export_region(store, options.experiment, options.region, options.output)
        else:
            data = workbench.export(store, options.experiment, options.output)
    if options.region is not None:
        terminal.result(data, tables.reproducer(data))
        terminal.show("", tables.next_commands("Run it", [data["runs_with"]]))
        return 0
    terminal.result(data, tables.artifact(data))
    terminal.show("", tables.next_commands("Load it", ["import runpy", data["loads_with"]]))
    return 0
