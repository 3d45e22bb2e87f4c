"""`hotbench largest-batch RUN --budget 2GiB`: how many items' training step fits, and a run that shows it."""

from __future__ import annotations

import argparse

from app.terminal import Terminal

NAME = "largest-batch"
HELP = "find the largest batch, or sequence, whose training step fits a memory budget"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the run, the budget and what may be done to keep it."""
    parser.add_argument("run", metavar="RUN", help='a run\'s id, a beginning of it, or "latest"')
    parser.add_argument(
        "--budget",
        required=True,
        metavar="BUDGET",
        help="highest live bytes of a step, such as 2GiB, or 100%% of the peak of the step as it is",
    )
    parser.add_argument(
        "--axis",
        type=_axis,
        default=0,
        metavar="N",
        help="axis of the inputs that grows: 0 is the batch, 1 mostly the sequence (default: 0)",
    )
    parser.add_argument(
        "--allow",
        default="swap,recompute",
        metavar="METHOD[,METHOD]",
        help="what may be done with tensors: swap, recompute or both (default: both)",
    )
    parser.add_argument(
        "--folder",
        default="",
        metavar="FOLDER",
        help="where swapped tensors go (default: HOTBENCH_SWAP or a temporary one)",
    )


def run(options: argparse.Namespace) -> int:
    """Search, confirm by a run, print what fits."""
    from app import tables, workbench
    from app.store import open_store

    terminal = Terminal(options.json)
    with open_store(options.store) as store, terminal.progress("largest batch") as progress:
        found = workbench.largest_batch(
            store,
            options.run,
            options.budget,
            axis=options.axis,
            allow=options.allow,
            folder=options.folder,
            progress=progress,
        )
    terminal.result(found, tables.largest_batch(found))
    return 0


def _axis(text: str) -> int:
    if not text.isdigit() or int(text) > 15:
        raise argparse.ArgumentTypeError(f"{text!r} is no axis; give 0 for the batch, 1 mostly for the sequence")
    return int(text)
