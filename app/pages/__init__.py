"""The pages, one module each (see page.py), in the order of the navigation."""

from __future__ import annotations

from typing import cast

from app.pages import artifacts, compare, experiments, graph, jobs, operators, optimize, overview, report, runs, workers
from app.pages.page import Page

PAGES = cast(
    tuple[Page, ...], (runs, overview, operators, graph, optimize, experiments, artifacts, report, jobs, workers)
)
HIDDEN = cast(tuple[Page, ...], (compare,))
"""Pages that are reached from others only."""
