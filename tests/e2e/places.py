"""Every page of the server, with what of a store it shows."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from tests.e2e.stored import HOSTILE_OP, Stored


def places(stored: Stored) -> Mapping[str, str]:
    """Return the addresses that show everything of a filled store, by a short name for files and messages."""
    run = {"run": stored.run}
    return {
        "runs": address("/runs"),
        "overview": address("/", **run),
        "operators": address("/operators", **run, op=str(HOSTILE_OP)),
        "graph": address("/graph", **run),
        "optimize": address("/optimize", **run),
        "experiments": address("/experiments", **run),
        "experiment": address("/experiments", **run, experiment=stored.experiment),
        "compare": address("/compare", before=stored.run, after=stored.other_run),
        "artifacts": address("/artifacts"),
        "reports": address("/reports"),
        "report": address("/reports", report=stored.report),
        "jobs": address("/jobs", job=stored.failed_job),
        "workers": address("/workers"),
    }


def address(path: str, **query: str) -> str:
    """Return a path with a query."""
    return f"{path}?{urlencode(query)}" if query else path


def path_of(found: str) -> str:
    """Return the path of an address."""
    return found.partition("?")[0]
