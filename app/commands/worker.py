"""`hotbench worker`: do a server's jobs on this machine. Needs the core packages alone."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from analyzer.errors import HotbenchError

NAME = "worker"
HELP = "do a server's jobs on this machine, with its own workload files"
VARIABLE = "HOTBENCH_TOKEN"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add where the server is, who this is, and what it offers."""
    parser.add_argument("--server", required=True, metavar="URL", help="such as https://host:8050")
    parser.add_argument(
        "--token", metavar="T", help=f"what `hotbench workers add` printed (default: the variable {VARIABLE})"
    )
    parser.add_argument(
        "--workloads",
        required=True,
        action="append",
        type=Path,
        metavar="DIR",
        help="a folder whose .py files the server may have run here; may be given again",
    )
    parser.add_argument("--name", metavar="N", help="what to call this machine (default: its host name)")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="certificates to trust the server by, as PEM")


def run(options: argparse.Namespace) -> int:
    """Work until Ctrl-C, SIGTERM, or until the server refuses the token."""
    from app.worker.loop import Worker, WorkerSettings

    token = options.token or os.environ.get(VARIABLE, "")
    if not token:
        raise HotbenchError(
            f"no token: give --token or set {VARIABLE}; `hotbench workers add NAME` on the server makes one"
        )
    worker = Worker(
        WorkerSettings(
            server=options.server,
            token=token.strip(),
            workloads=tuple(folder.expanduser() for folder in options.workloads),
            host=(options.name or platform.node() or "unnamed")[:80],
            ca=options.ca,
        ),
        _say,
    )
    try:
        worker.run()
    finally:
        if options.json:
            print(json.dumps({"jobs": worker.done}), flush=True)
    return 0


def _say(line: str) -> None:
    print(f"hotbench: {line}", file=sys.stderr, flush=True)
