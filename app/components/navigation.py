"""The pages as the navigation lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RESULTS = ("/experiments", "/artifacts", "/reports")
MACHINES = ("/jobs", "/workers")


@dataclass(frozen=True, slots=True)
class Place:
    """One page: its path, its title, its icon, and whether it is about one run."""

    path: str
    title: str
    icon: str
    needs_run: bool


def groups(places: Sequence[Place]) -> tuple[tuple[str, tuple[Place, ...]], ...]:
    """Return (heading, places): all runs, this run, results, machines; each in the order given, none empty."""
    named = {
        "": [place for place in places if not place.needs_run and place.path not in (*RESULTS, *MACHINES)],
        "This run": [place for place in places if place.needs_run],
        "Results": [place for place in places if place.path in RESULTS and not place.needs_run],
        "Machines": [place for place in places if place.path in MACHINES],
    }
    return tuple((title, tuple(members)) for title, members in named.items() if members)
