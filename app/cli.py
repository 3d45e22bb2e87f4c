"""The command line: parse, run one command, turn every error into one line and an exit code.

0: done. 1: a verdict or a gate says no, or an optimizer refuses. 2: an error. 130: interrupted. 143: terminated.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from analyzer.errors import HotbenchError
from app.commands import COMMANDS
from app.fault import keep_traceback
from app.units import printable

DONE, REFUSED, FAILED, BROKEN_PIPE, INTERRUPTED, TERMINATED = 0, 1, 2, 141, 130, 143


class _Terminated(BaseException):
    """SIGTERM arrived: unwind like Ctrl-C, so that child processes are ended and files removed."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message: str) -> NoReturn:
        command = self.prog.partition(" ")[2]
        self.exit(
            FAILED, f"hotbench: error: {printable(message)}; see `hotbench {command} --help`\n".replace("  ", " ")
        )


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of every command that works."""
    parser = _Parser(
        prog="hotbench",
        description="Find the hot spots of a PyTorch model, fix them, and prove by measurement that it got faster.",
        epilog="Start with: hotbench profile examples/lstm.py:workload --show",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="name")
    for command in COMMANDS:
        sub = commands.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.configure(sub)
        sub.add_argument(
            "--store",
            metavar="FOLDER-or-URL",
            help="where runs are kept (default: HOTBENCH_STORE, else your data folder)",
        )
        sub.add_argument("--json", action="store_true", help="print one JSON object on stdout, in SI base units")
        sub.set_defaults(run_command=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; no traceback reaches the user."""
    previous = _unwind_on_terminate()
    try:
        parser = make_parser()
        _check_order(parser, sys.argv[1:] if arguments is None else arguments)
        options = parser.parse_args(arguments)
        code: int = options.run_command(options)
        sys.stdout.flush()
        return code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else FAILED
    except HotbenchError as error:
        return _say(f"error: {error}", FAILED)
    except KeyboardInterrupt:
        return _say("interrupted; nothing half-done was kept", INTERRUPTED)
    except _Terminated:
        return _say("terminated; nothing half-done was kept", TERMINATED)
    except ModuleNotFoundError as error:
        return _say(_missing(error), FAILED)
    except BrokenPipeError:
        # The reader of our pipe has gone. Its descriptor is replaced so that the interpreter's own flush is silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        return _say(_unexpected(error), FAILED)
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)


def _check_order(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Say so where an option of every command stands before the command: argparse would name its value as a command."""
    first = (arguments[0] if arguments else "").partition("=")[0]
    if first in ("--store", "--json"):
        parser.error(f"{first} stands before the command; write it behind: hotbench COMMAND {first}")


def _say(text: str, code: int) -> int:
    print(f"hotbench: {printable(text)}", file=sys.stderr, flush=True)
    return code


def _missing(error: ModuleNotFoundError) -> str:
    """Return what to install: a worker's machine has the core packages alone."""
    package = (error.name or "").partition(".")[0]
    if package in ("analyzer", "kernels", "optimizers", "app", ""):
        return _unexpected(error)
    return f"error: this command needs the package {package!r}; install it with: pip install 'hotbench[app]'"


def _unexpected(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    where = keep_traceback("".join(traceback.format_exception(error)))
    return f"error: unexpected {type(error).__name__}: {text}; {where}"


def _unwind_on_terminate() -> Any:
    """Raise _Terminated on SIGTERM; return the handler before, None outside the main thread."""

    def stop(_number: int, _frame: object) -> None:
        raise _Terminated

    try:
        return signal.signal(signal.SIGTERM, stop)
    except ValueError:
        return None
