"""`python -m optimizers`: the whole loop over folders, without web or database."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from analyzer.diagnosis.diagnose import diagnose
from analyzer.errors import HotbenchError
from analyzer.experiment import Experiment, load_experiment, save_experiment
from analyzer.progress import Progress, print_json, silent
from analyzer.record import to_plain
from analyzer.run import load_run
from optimizers.artifact import FORMATS, TORCH, export_artifact
from optimizers.candidate import load_candidate
from optimizers.pipeline import optimize, optimize_summary, propose
from optimizers.settings import parse_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 1 refused or not kept, 2 bad input."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except HotbenchError as error:
        print(f"optimizers: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("optimizers: cancelled; nothing was kept", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m optimizers", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("diagnose", help="print a run's findings")
    command.add_argument("run", type=Path, metavar="RUN_FOLDER")
    command.set_defaults(command=_diagnose)
    command = commands.add_parser("plan", help="print what optimizers would do, without doing it")
    _add_request(command)
    command.set_defaults(command=_plan)
    command = commands.add_parser("optimize", help="plan, apply, prove; the results go into a folder")
    _add_request(command)
    command.add_argument("-o", "--output", type=Path, required=True, help="folder for candidate/ and experiment/")
    command.add_argument("--max-error", type=float, help="largest relative error allowed (default: by dtype)")
    command.add_argument("--progress", choices=("json", "none"), default="none", help="progress on stderr")
    command.set_defaults(command=_optimize)
    command = commands.add_parser("export", help="write the artifact of a kept candidate")
    command.add_argument("folder", type=Path, metavar="OPTIMIZE_FOLDER", help="what `optimize -o` wrote")
    command.add_argument("-o", "--output", type=Path, required=True, help="the artifact's folder")
    command.add_argument("--format", choices=FORMATS, default=TORCH, help="onnx: of a compressed int8 model alone")
    command.set_defaults(command=_export)
    return parser


def _add_request(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path, metavar="RUN_FOLDER")
    command.add_argument("--with", dest="names", required=True, metavar="NAME[,NAME]", help="optimizers to apply")
    command.add_argument("--set", dest="settings", action="append", default=[], metavar="NAME.OPTION=VALUE")


def _print(data: Any) -> None:
    print(json.dumps(data, indent=1))


def _names(options: argparse.Namespace) -> list[str]:
    return [name for name in options.names.split(",") if name]


def _diagnose(options: argparse.Namespace) -> int:
    _print(to_plain(diagnose(load_run(options.run))))
    return 0


def _plan(options: argparse.Namespace) -> int:
    proposal = propose(load_run(options.run), _names(options), parse_settings(options.settings))
    _print(to_plain(proposal))
    return 0 if proposal.plans else 1


def _optimize(options: argparse.Namespace) -> int:
    progress: Progress = print_json if options.progress == "json" else silent
    outcome = optimize(
        load_run(options.run),
        _names(options),
        parse_settings(options.settings),
        options.output / "candidate",
        options.max_error,
        progress,
    )
    if outcome.experiment is not None:
        save_experiment(outcome.experiment, options.output / "experiment")
    _print(optimize_summary(outcome))
    return 0 if outcome.kept else 1


def _export(options: argparse.Namespace) -> int:
    candidate = load_candidate(options.folder / "candidate")
    experiment: Experiment = load_experiment(options.folder / "experiment")
    _print(to_plain(export_artifact(candidate, experiment, options.output, options.format)))
    return 0
