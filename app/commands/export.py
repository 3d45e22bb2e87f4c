"""`hotbench export EXPERIMENT -o DIR`: the optimized model, or one of its kernels, as a folder of its own."""

from __future__ import annotations

import argparse
from pathlib import Path

from analyzer.errors import HotbenchError
from app.terminal import Terminal

NAME = "export"
HELP = "write an experiment's optimized model, or one of its generated kernels, into a folder of its own"
FORMATS = ("torch", "onnx")
"""Of optimizers.artifact, which takes a second to load."""


_IMPORTS = {"torch": "import runpy", "onnx": "import onnxruntime"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the experiment, the folder and the format."""
    parser.add_argument("experiment", metavar="EXPERIMENT", help='an experiment\'s id, a beginning of it, or "latest"')
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="the folder to write")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help="torch (default): loads with torch and numba; onnx: a compressed int8 model for onnxruntime and others",
    )
    parser.add_argument(
        "--region",
        metavar="NAME",
        help="only this generated kernel, as a folder that runs it by itself, checks it and times it",
    )


def run(options: argparse.Namespace) -> int:
    """Export; print what was written and how to load it."""
    from app import reproducers, tables, workbench
    from app.store import open_store

    if options.region is not None and options.format != FORMATS[0]:
        raise HotbenchError(f"--format {options.format} with --region: a kernel has no such form; leave --format out")
    terminal = Terminal(options.json)
    with open_store(options.store) as store, terminal.progress("export"):
        if options.region is not None:
            data = reproducers.export_region(store, options.experiment, options.region, options.output)
        else:
            data = workbench.export(store, options.experiment, options.output, options.format)
    if options.region is not None:
        terminal.result(data, tables.reproducer(data))
        terminal.show("", tables.next_commands("Run it", [data["runs_with"]]))
        return 0
    terminal.result(data, tables.artifact(data))
    terminal.show("", tables.next_commands("Load it", [_IMPORTS[options.format], data["loads_with"]]))
    return 0
