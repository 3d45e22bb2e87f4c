"""`hotbench profile FILE.py:FUNCTION`: capture a workload."""

from __future__ import annotations

import argparse

from app.terminal import Terminal, invocation, store_option

NAME = "profile"
HELP = "capture a workload: its graph, times and memory"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the workload and how to run it."""
    parser.add_argument("workload", metavar="FILE.py:FUNCTION", help="a function that returns a Workload")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one"
    )
    parser.add_argument(
        "--steps", type=_count, metavar="N", help="steps to time (default: as many as the spread needs)"
    )
    parser.add_argument("--threads", type=_count, metavar="N", help="CPU threads (default: PyTorch's own choice)")
    parser.add_argument("--show", action="store_true", help="also print hot ops, memory and findings")


def run(options: argparse.Namespace) -> int:
    """Capture, save, print the summary and what to type next."""
    from analyzer.diagnosis.diagnose import diagnose
    from analyzer.summary import profile_summary, show_summary
    from app import tables, workbench
    from app.store import open_store

    terminal = Terminal(options.json)
    with open_store(options.store) as store, terminal.progress("profile") as progress:
        captured = workbench.profile(
            store,
            options.workload,
            device=options.device,
            steps=options.steps,
            threads=options.threads,
            progress=progress,
            echo=terminal.note,
        )
    terminal.result(profile_summary(captured), tables.run_lines(captured))
    diagnosis = diagnose(captured)
    if options.show:
        summary = show_summary(captured, 10)
        terminal.show(
            "",
            tables.hot_ops(summary["ops"], terminal.width),
            tables.memory(summary["memory"]),
            tables.findings(diagnosis),
        )
    terminal.show(
        "", tables.next_commands("Next", _next(captured.id, options, [f.optimizer for f in diagnosis.findings]))
    )
    return 0


def _next(run: str, options: argparse.Namespace, answers: list[str]) -> list[str]:
    start = invocation()
    store = store_option(options.store)
    commands = [] if options.show else [f"{start} diagnose {run}{store}"]
    best = next((name for name in answers if name), None)
    if best:
        commands.append(f"{start} optimize {run} --with {best}{store}")
    return [*commands, f"{start} report {run} -o report.html{store}"]


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no count; give a whole number from 1 on")
    return int(text)
