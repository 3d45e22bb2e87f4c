"""`hotbench doctor`: what this machine offers, and how to mend what is missing."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from app.terminal import Terminal

NAME = "doctor"
HELP = "check this machine and say how to mend what is missing"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the doctor looks at everything."""


def run(options: argparse.Namespace) -> int:
    """Examine; 1 when something essential fails."""
    from app import tables
    from app.doctor import examine, healthy

    terminal = Terminal(options.json)
    checks = examine(options.store)
    well = healthy(checks)
    terminal.result({"healthy": well, "checks": [asdict(check) for check in checks]}, tables.checks(checks))
    return 0 if well else 1
