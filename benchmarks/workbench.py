"""How long the page takes in a headless browser: large synthetic runs in a real server, beside plain Dash pages.

Ours is `hotbench serve`; the peer (benchmarks.plain_dash) shows the same stored runs as Dash's tutorials would. A row's
case names what ours shows. The peer's graph holds only the first of its ops, as many as a browser bears.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, BrowserContext

from analyzer.errors import HotbenchError
from analyzer.progress import Progress, part, silent
from app.store import open_store
from benchmarks.command import main
from benchmarks.contract import Benchmark, Outcome, Promise, Row, Settings, row_of_samples
from benchmarks.in_browser import new_profile, opened_browser, seconds_of_act, shown
from benchmarks.plain_dash import GRAPH_NODES
from benchmarks.synthetic_runs import save_synthetic
from tests.e2e.server_process import plain_environment, serving

ROOT = Path(__file__).parent.parent
RUN_OPS, GRID_OPS = 20_000, 100_000
PLAIN_OVERVIEW = "dash-graphs-and-datatable"
PLAIN_GRID = "ag-grid-client-side"
PLAIN_GRAPH = f"cytoscape-browser-layout-{GRAPH_NODES}-nodes"
OVERVIEW = Promise("overview-20k-ops", PLAIN_OVERVIEW, "seconds-to-shown")
OVERVIEW_WHOLE = Promise("overview-20k-ops", PLAIN_OVERVIEW, "seconds-to-last-figure")
GRID_ROWS = Promise("grid-100k-rows", PLAIN_GRID, "seconds-to-first-rows")
GRID_SORT = Promise("grid-100k-rows", PLAIN_GRID, "seconds-to-sorted")
GRAPH_VIEW = Promise("graph-20k-ops", PLAIN_GRAPH, "seconds-to-first-view")
GRAPH_EXPAND = Promise("graph-20k-ops", PLAIN_GRAPH, "seconds-to-expanded")
THREADS = 1
PROMISES = (OVERVIEW, OVERVIEW_WHOLE, GRID_ROWS, GRID_SORT, GRAPH_VIEW, GRAPH_EXPAND)
BARS = {OVERVIEW: 2.0, OVERVIEW_WHOLE: 2.0, GRID_ROWS: 2.0, GRID_SORT: 0.5, GRAPH_VIEW: 1.5, GRAPH_EXPAND: 0.5}
"""Seconds that ours should stay under."""
ROUNDS, QUICK_ROUNDS = 15, 3


@dataclass(frozen=True, slots=True)
class Act:
    """A click, and how to tell its result: JavaScript, as for `in_browser.seconds_of_act`; `ready` holds before it."""

    before: str
    click: str
    condition: str
    ready: str = "true"


@dataclass(frozen=True, slots=True)
class View:
    """A page, how to tell that it is shown, and what is then clicked there."""

    path: str
    condition: str
    act: Act | None = None


_PLOTS = "document.querySelectorAll('.js-plotly-plot .main-svg').length"
_ROW = "(document.querySelector('.ag-center-cols-container [row-index=\"0\"]') || {}).textContent"
_ROWS = f"(({_ROW}) || '').length > 10 && !document.querySelector('.ag-row-loading')"
_SORT = "document.querySelector('.ag-header-cell[col-id=\"self_seconds\"] .ag-header-cell-label').click()"
_GRAPH = "document.querySelector('#graph-canvas')"
_NODES = f"{_GRAPH}._cyreg.cy.nodes().length"
# A graph is there once cytoscape has drawn it, which is later than its nodes are known.
_DRAWN = f"""(() => {{
  const place = {_GRAPH};
  if (!place || !place._cyreg || {_NODES} < 2) return false;
  if (place.drawn === undefined) {{ place.drawn = 0; place._cyreg.cy.on('render', () => {{ place.drawn += 1; }}); }}
  return place.drawn > 0;
}})()"""
_REDRAWN = f"""(() => {{
  const place = {_GRAPH};
  if ({_NODES} === before) return false;
  if (place.drawnBefore === undefined) place.drawnBefore = place.drawn;
  return place.drawn > place.drawnBefore;
}})()"""
# The list beside the picture comes a moment later; its first button opens the hottest group that is closed.
_CLOSED = """[...document.querySelectorAll('#graph-list [data-graph-act="toggle"]')]
  .find((button) => button.textContent === 'Open')"""

# The words, the hot ops' bars and the findings come together; a figure is drawn when its place is near the screen, and
# timed apart. The peer has its table and two figures at once.
_OURS_SHOWN = "document.querySelectorAll('#page #hot-ops td').length > 10"
OVERVIEW_OURS = View("/?run={run}", _OURS_SHOWN)
OVERVIEW_OURS_WHOLE = View("/?run={run}", f"{_PLOTS} >= 1 && {_OURS_SHOWN}")
OVERVIEW_PLAIN = View("/overview", f"{_PLOTS} >= 2 && document.querySelectorAll('#ops td').length > 10")
_SORTED = Act(_ROW, _SORT, f"({_ROWS}) && ({_ROW}) !== before")
GRID_OURS = View("/operators?run={grid_run}", _ROWS, _SORTED)
GRID_PLAIN = View("/grid", _ROWS, _SORTED)
GRAPH_OURS = View("/graph?run={run}", _DRAWN, Act(_NODES, f"{_CLOSED}.click()", _REDRAWN, ready=_CLOSED))
GRAPH_PLAIN = View("/graph", _DRAWN, Act(_NODES, "document.querySelector('#expand').click()", _REDRAWN))


@dataclass(frozen=True, slots=True)
class Case:
    """One page of ours and of the peer, and the promises that their samples fill: view, then act."""

    view: Promise
    act: Promise | None
    ours: View
    theirs: View
    quick: bool

    @property
    def promises(self) -> tuple[Promise, ...]:
        """Return what is promised of it."""
        return (self.view,) if self.act is None else (self.view, self.act)


CASES = (
    Case(OVERVIEW, None, OVERVIEW_OURS, OVERVIEW_PLAIN, quick=True),
    Case(OVERVIEW_WHOLE, None, OVERVIEW_OURS_WHOLE, OVERVIEW_PLAIN, quick=False),
    Case(GRID_ROWS, GRID_SORT, GRID_OURS, GRID_PLAIN, quick=True),
    # The peer's graph alone would take a quick run's minute.
    Case(GRAPH_VIEW, GRAPH_EXPAND, GRAPH_OURS, GRAPH_PLAIN, quick=False),
)


@dataclass(frozen=True, slots=True)
class Servers:
    """Where ours and the peer are served, and the runs they show."""

    ours: str
    plain: str
    run: str
    grid_run: str

    def url(self, view: View, plain: bool) -> str:
        """Return the whole address of a view."""
        return (self.plain if plain else self.ours) + view.path.format(run=self.run, grid_run=self.grid_run)


def measure(settings: Settings) -> Outcome:
    """Return a row for each page and each click; `details` has our first visits and the bars."""
    rounds = QUICK_ROUNDS if settings.quick else ROUNDS
    rows: list[Row] = []
    details: dict[str, Any] = {}
    with served(part(settings.progress, 0.0, 0.2)) as servers, opened_browser() as browser:
        for place, case in enumerate(CASES):
            progress = part(settings.progress, 0.2 + 0.8 * place / len(CASES), 0.2 + 0.8 * (place + 1) / len(CASES))
            peers = case.quick or not settings.quick
            taken = measure_case(case, servers, browser, rounds, peers, progress)
            for promise in case.promises:
                ours, theirs = taken.ours[promise], taken.theirs[promise]
                details[f"{promise.case} {promise.metric}"] = figures(promise, ours, taken.first)
                if peers:
                    rows.append(row_of_samples(promise, THREADS, ours, theirs))
    return Outcome(tuple(rows), (), details)


@dataclass(frozen=True, slots=True)
class Taken:
    """The samples of a case. first: ours on the very first visit: nothing cached, tables and layout made then."""

    first: Mapping[Promise, float]
    ours: Mapping[Promise, list[float]]
    theirs: Mapping[Promise, list[float]]


def measure_case(case: Case, servers: Servers, browser: Browser, rounds: int, peers: bool, progress: Progress) -> Taken:
    """Return the samples of ours and, with `peers`, of the peer, taken in turns; both have a warm browser cache."""
    ours: dict[Promise, list[float]] = {promise: [] for promise in case.promises}
    theirs: dict[Promise, list[float]] = {promise: [] for promise in case.promises}
    with contextlib.closing(new_profile(browser)) as profile:
        first = dict(zip(case.promises, sample(profile, servers, case.ours, False), strict=True))
        if peers:
            sample(profile, servers, case.theirs, True)
        for turn in range(rounds):
            for plain in ((False, True), (True, False))[turn % 2]:
                if plain and not peers:
                    continue
                view = case.theirs if plain else case.ours
                for promise, seconds in zip(case.promises, sample(profile, servers, view, plain), strict=True):
                    (theirs if plain else ours)[promise].append(seconds)
            progress(case.view.case, (turn + 1) / rounds)
    return Taken(first, ours, theirs)


def sample(profile: BrowserContext, servers: Servers, view: View, plain: bool) -> tuple[float, ...]:
    """Return the seconds of one visit: until it is shown, and of its act where it has one."""
    with shown(profile, servers.url(view, plain), view.condition) as (page, seconds):
        if view.act is None:
            return (seconds,)
        page.wait_for_function(view.act.ready)
        return seconds, seconds_of_act(page, view.act.before, view.act.click, view.act.condition)


def figures(promise: Promise, ours: Sequence[float], first: Mapping[Promise, float]) -> dict[str, float]:
    """Return what a reader wants beside the row: ours with its quartiles, the first visit, the bar."""
    low, median, high = np.percentile(ours, (25, 50, 75))
    return {
        "median_seconds": float(median),
        "quartile_low_seconds": float(low),
        "quartile_high_seconds": float(high),
        "first_visit_seconds": first[promise],
        "bar_seconds": BARS[promise],
    }


@contextlib.contextmanager
def served(progress: Progress = silent, run_ops: int = RUN_OPS, grid_ops: int = GRID_OPS) -> Iterator[Servers]:
    """Return a context with both servers over a store of synthetic runs; all are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="hotbench-workbench-") as folder, contextlib.ExitStack() as stack:
        progress("making the runs", 0.0)
        place = Path(folder) / "store"
        with open_store(str(place)) as store:
            run, grid_run = save_synthetic(store, run_ops), save_synthetic(store, grid_ops)
        progress("starting the servers", 0.5)
        ours = stack.enter_context(serving(place))
        plain = stack.enter_context(plain_serving(place, run, grid_run))
        progress("serving", 1.0)
        yield Servers(ours.url, plain, run, grid_run)


@contextlib.contextmanager
def plain_serving(place: Path, run: str, grid_run: str) -> Iterator[str]:
    """Return a context with the peer's address."""
    arguments = ["--store", str(place), "--run", run, "--grid-run", grid_run]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.plain_dash", *arguments],
        cwd=ROOT, env=plain_environment(), stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line.startswith("http://"):
            raise HotbenchError("the peer's server did not start; run python -m benchmarks.plain_dash to see why")
        yield line
    finally:
        process.kill()
        process.wait()


BENCHMARK = Benchmark("workbench", PROMISES, measure)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
