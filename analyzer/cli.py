"""The command line of the analyzer alone: the core dependencies suffice."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from analyzer.errors import HotbenchError, RecordError, WorkloadError
from analyzer.progress import Progress, print_json, silent
from analyzer.summary import profile_summary, show_summary

BAD_INPUT = 2


class Terminated(BaseException):
    """SIGTERM arrived: unwind, so that temporary folders are removed; not to be taken for a failure of the model."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 when done, 2 on bad input, 128 + signal when interrupted."""
    options = build_parser().parse_args(arguments)
    try:
        with terminating():
            run: Callable[[argparse.Namespace], None] = options.run
            run(options)
        return 0
    except HotbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted; nothing was saved", file=sys.stderr)
        return 128 + signal.SIGINT
    except Terminated:
        print("terminated; nothing was saved", file=sys.stderr)
        return 128 + signal.SIGTERM


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m analyzer", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    capture = commands.add_parser("capture", help="run a workload and save its graph, times and memory")
    capture.add_argument("workload", metavar="FILE.py:FUNCTION")
    capture.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER")
    capture.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    capture.add_argument("--steps", type=int, help="steps under the profiler, and as many without it")
    capture.add_argument("--threads", type=int, help="intra-op threads")
    capture.add_argument("--seed", type=int, default=0)
    capture.add_argument("--progress", choices=("json", "text", "none"), default="none")
    capture.add_argument("--json", action="store_true", help="print one JSON object")
    capture.set_defaults(run=_capture)
    show = commands.add_parser("show", help="show where a captured run's time and memory go")
    show.add_argument("folder", type=Path, metavar="FOLDER")
    show.add_argument("--ops", type=int, default=20, help="how many op names")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.set_defaults(run=_show)
    return parser


@contextmanager
def terminating() -> Iterator[None]:
    """Turn SIGTERM into an exception meanwhile."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def resolve_device(choice: str) -> str:
    """Return "cpu" or "cuda". Raises WorkloadError where cuda is asked for and there is none."""
    import torch

    available = torch.cuda.is_available()
    if choice == "cuda" and not available:
        raise WorkloadError("--device cuda: torch sees no CUDA device here; use --device cpu or auto")
    return "cuda" if available and choice != "cpu" else "cpu"


def print_text(stage: str, fraction: float) -> None:
    """Print the stage and the share that is behind on stderr."""
    print(f"{fraction:4.0%} {stage}", file=sys.stderr, flush=True)


PROGRESS: dict[str, Progress] = {"json": print_json, "text": print_text, "none": silent}


def refuse_occupied(folder: Path) -> None:
    """Raise RecordError for a place that a run cannot be saved to, before a capture is spent on it."""
    if folder.exists() and not folder.is_dir():
        raise RecordError(f"{str(folder)!r} is a file; give -o a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "manifest.json").is_file():
        raise RecordError(f"{str(folder)!r} holds other files; give -o a new folder or that of an older run")


def _capture(options: argparse.Namespace) -> None:
    for name in ("steps", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise WorkloadError(f"--{name} {value}: take at least 1")
    refuse_occupied(options.output)
    # Torch takes a second to import: not before the arguments hold.
    from analyzer.capture import capture
    from analyzer.run import save_run
    from analyzer.workload import load_workload

    device = resolve_device(options.device)
    try:
        workload, reference = load_workload(options.workload, options.seed, device)
        run = capture(
            workload, reference, steps=options.steps, threads=options.threads, progress=PROGRESS[options.progress]
        )
    except SystemExit as error:
        raise WorkloadError(f"{options.workload} called sys.exit({error.code!r}); return instead") from error
    save_run(run, options.output)
    summary = profile_summary(run) | {"folder": str(options.output)}
    print(json.dumps(summary) if options.json else _profile_text(summary))


def _show(options: argparse.Namespace) -> None:
    if options.ops < 0:
        raise WorkloadError(f"--ops {options.ops}: give a count of 0 or more")
    from analyzer.run import load_run

    summary = show_summary(load_run(options.folder), options.ops)
    print(json.dumps(summary) if options.json else _show_text(summary))


def _profile_text(summary: dict[str, Any]) -> str:
    step, coverage = summary["step_seconds"], summary["coverage"]
    lines = [
        f"{summary['run']}  {summary['name']} on {summary['device']['name']}, {summary['threads']} thread(s)",
        f"step       {_seconds(step['median'])}, median of {step['samples']} steps",
        f"quartiles  {_seconds(step['low'])} to {_seconds(step['high'])}, p95 {_seconds(step['p95'])}",
        f"throughput {summary['throughput']:.4g} items/s",
        f"peak       {summary['peak_bytes'] / 2**20:.1f} MiB",
        f"graph      {summary['ops']} ops, {summary['edges']} edges",
        f"timed      {coverage['timed_ops']:.1%} of the ops",
        f"joined     {coverage['joined_ops']:.1%} of the ops with their tensors",
        f"explained  {coverage['categorised_bytes']:.1%} of the bytes at the peak",
        *(f"note       {note}" for note in summary["notes"]),
        f"saved      {summary['folder']}",
    ]
    return "\n".join(lines)


def _show_text(summary: dict[str, Any]) -> str:
    lines = [f"{summary['run']}  {summary['name']}  step {_seconds(summary['step_seconds']['median'])}", ""]
    lines.append(f"{'op':<44}{'count':>7}{'self':>12}{'share':>8}{'MFLOP':>11}{'MB':>10}")
    for op in summary["ops"]:
        lines.append(
            f"{op['name'][:43]:<44}{op['count']:>7}{_seconds(op['self_seconds']):>12}{op['share']:>8.1%}"
            f"{op['flops'] / 1e6:>11.3f}{op['bytes'] / 1e6:>10.3f}"
        )
    lines += ["", "memory at the peak"]
    lines += [f"  {name:<16}{size / 2**20:>12.3f} MiB" for name, size in summary["memory"].items()]
    if summary["busy_seconds"] is not None:
        busy, idle = _seconds(summary["busy_seconds"]), _seconds(summary["idle_seconds"])
        lines += ["", f"device busy {busy}, idle {idle} in one step"]
    return "\n".join(lines)


def _seconds(value: float) -> str:
    return f"{value * 1e6:.1f} us" if value < 1e-3 else f"{value * 1e3:.2f} ms" if value < 1 else f"{value:.3f} s"
