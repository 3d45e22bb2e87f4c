"""`hotbench optimize RUN --with NAME`: apply optimizers, and prove by measurement what they gave."""

from __future__ import annotations

import argparse
import math

from analyzer.errors import HotbenchError
from app.terminal import Terminal, invocation, store_option

NAME = "optimize"
HELP = "apply optimizers to a run's workload and prove the gain by measurement"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the run, the optimizers and their options."""
    parser.add_argument("run", metavar="RUN", help='a run\'s id, a beginning of it, or "latest"')
    parser.add_argument("--with", dest="names", required=True, metavar="NAME[,NAME]", help="optimizers, such as fusion")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME.OPTION=VALUE",
        help="an option of an optimizer; may be given several times",
    )
    parser.add_argument(
        "--max-error",
        type=_error,
        metavar="X",
        help="largest relative error of the outputs that is allowed (default: by dtype)",
    )
    parser.add_argument(
        "--budget",
        metavar="BUDGET",
        help="highest live bytes of a step for swap to keep, such as 2GiB, or 60%% of the step's own peak",
    )


def run(options: argparse.Namespace) -> int:
    """Optimize; 0 when the candidate is kept, 1 when it is not or every optimizer refuses."""
    from app import tables, workbench
    from app.author import command_line_author
    from app.store import keeps, open_store
    from optimizers.pipeline import optimize_summary
    from optimizers.settings import parse_settings

    names = [name.strip() for name in options.names.split(",") if name.strip()]
    settings = parse_settings(options.settings)
    if options.budget is not None:
        if names and "swap" not in names:
            raise HotbenchError(
                f"--budget {options.budget}: {', '.join(names)} works to no memory budget; leave it out, or add swap"
            )
        settings["swap.budget"] = options.budget
    terminal = Terminal(options.json)
    with open_store(options.store) as store, terminal.progress("optimize") as progress:
        outcome = workbench.optimize(
            store, options.run, names, settings, max_error=options.max_error, progress=progress
        )
        if outcome.kept and outcome.candidate is not None and outcome.experiment is not None:
            keeps.keep(store, outcome.candidate.parent, outcome.experiment.id, command_line_author())
    terminal.result(optimize_summary(outcome), tables.outcome(outcome))
    if outcome.experiment is not None:
        start, id = invocation(), outcome.experiment.id
        commands = [f"{start} report {id} -o report.html{store_option(options.store)}"]
        commands += [f"{start} export {id} -o artifact{store_option(options.store)}"] if outcome.kept else []
        terminal.show("", tables.next_commands("Next", commands))
    return 0 if outcome.kept else 1


def _error(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no relative error; give a number from 0 on, such as 1e-5")
    return value
