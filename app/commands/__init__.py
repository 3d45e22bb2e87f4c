"""The commands, one file each: NAME, HELP, configure(parser) and run(options) -> exit code."""

from __future__ import annotations

import argparse
from typing import Protocol

from app.commands import (
    compare,
    diagnose,
    doctor,
    export,
    jobs,
    keep,
    largest_batch,
    listing,
    optimize,
    profile,
    publish,
    remove,
    report,
    review,
    serve,
    show,
    tag,
    users,
    worker,
    workers,
)


class Command(Protocol):
    """What each module of this package provides."""

    NAME: str
    HELP: str

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's own arguments."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it; return the exit code."""


COMMANDS: tuple[Command, ...] = (
    profile,
    listing,
    show,
    diagnose,
    optimize,
    largest_batch,
    keep,
    compare,
    export,
    report,
    publish,
    review,
    tag,
    remove,
    serve,
    jobs,
    worker,
    workers,
    users,
    doctor,
)
