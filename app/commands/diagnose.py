"""`hotbench diagnose RUN`: what costs time or memory, and what would mend it."""

from __future__ import annotations

import argparse
from typing import Any

from app.terminal import Terminal, invocation, store_option

NAME = "diagnose"
HELP = "find what costs a run time or memory, and what would mend it"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the run."""
    parser.add_argument("run", metavar="RUN", help='a run\'s id, a beginning of it, or "latest"')


def run(options: argparse.Namespace) -> int:
    """Print the findings, each with evidence and estimate."""
    from app import tables, workbench
    from app.store import open_store

    terminal = Terminal(options.json)
    with open_store(options.store) as store:
        captured, diagnosis = workbench.read_diagnosis(store, options.run)
    terminal.result(summary(diagnosis), tables.findings(diagnosis))
    answers = sorted({finding.optimizer for finding in diagnosis.findings if finding.optimizer})
    if answers:
        command = f"{invocation()} optimize {captured.id} --with {','.join(answers)}{store_option(options.store)}"
        terminal.show("", tables.next_commands("Next", [command]))
    return 0


def summary(diagnosis: Any) -> dict[str, Any]:
    """Return the JSON of a diagnosis: estimates are predicted, evidence is measured."""
    from analyzer.record import to_plain

    return {
        "run": diagnosis.parent,
        "diagnosis": diagnosis.id,
        "findings": [
            {
                "id": finding.id,
                "rule": finding.rule,
                "title": finding.title,
                "evidence": to_plain(finding.evidence),
                "ops": list(finding.ops),
                "optimizer": finding.optimizer,
                "estimate": finding.estimate.as_dict(),
            }
            for finding in diagnosis.findings
        ],
    }
