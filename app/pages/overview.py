"""One run at a glance: what it costs, where the time and memory go, what would mend it, and what has."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update

from analyzer.run import Run
from app.components.ago import ago
from app.components.badge import origin_badge, verdict_badge
from app.components.card import page_heading, section
from app.components.client import client
from app.components.command import command_line
from app.components.empty import empty
from app.components.facts import bars, facts
from app.components.figure import figure
from app.components.finding_cards import finding_cards, findings_pixels
from app.components.hot_ops import hot_ops, hot_ops_pixels
from app.components.kpi import kpi, kpi_row
from app.components.links import link, link_button
from app.components.new_run import captures
from app.components.term import term
from app.figures.lines import live_bytes
from app.figures.theme import CATEGORY_COLOURS, GREY
from app.store import Entry, Store
from app.store.keeps import kept
from app.units import mebibytes, milliseconds, percent, printable, ratio
from app.views.columns import arrange
from app.views.experiments import ProofView, proof_view
from app.views.loaded import derived, loaded_diagnosis, loaded_run, run_entry
from app.views.overview import KeyFigure, Overview, make_overview
from app.web.context import context
from app.workloads import is_local, place_name

PATH = "/"
TITLE = "Overview"
ICON = "overview"
NEEDS_RUN = True
_FIGURE_PIXELS = 280


def layout(query: Mapping[str, str]) -> Any:
    """Return the run's overview; the finding in the address is marked."""
    if "run" not in query:
        return _no_run()
    store = context().store
    entry = run_entry(store, query["run"])
    run = loaded_run(store, entry.id)
    view: Overview = derived(
        store, entry.id, "overview", lambda run: make_overview(run, loaded_diagnosis(store, run.id))
    )
    cards = _lower_cards(entry, run, view)
    above = hot_ops_pixels(view), findings_pixels(view.findings)
    order = arrange(*above, [(name, pixels) for name, (_, pixels) in cards.items()])
    left = [hot_ops(entry.id, view), *(cards[name][0] for name in order.left)]
    right = [
        finding_cards(entry.id, view.findings, query.get("finding", "")),
        *(cards[name][0] for name in order.right),
    ]
    return dmc.Stack(
        [
            _heading(entry, view),
            kpi_row(*(_card(item) for item in view.figures), columns=5),
            html.Div(_kept(store, entry), id="overview-kept", className="hb-live"),
            html.Div([html.Div(left), html.Div(right)], className="hb-columns"),
            *(html.Div([cards[name][0] for name in row], className="hb-pair") for row in order.rows),
            _where(entry, view),
            command_line(f"hotbench show {entry.id}"),
            dcc.Store(id="overview-run", data=entry.id),
            dcc.Store(id="overview-near"),
        ],
        gap="md",
    )


def _no_run() -> Any:
    """Return what to do without a run; a capture that runs already is shown, and opens when it is done."""
    running = captures()
    if running:
        text = "The first capture runs. This page opens it when it is done."
        body = section("Being captured", *running, text=text)
    else:
        body = empty(
            "No run yet",
            "A run is one capture of your workload: its ops, times and memory. The Runs page makes the first one.",
            link_button("Capture a workload", "/runs", icon="plus", primary=True),
            icon="overview",
        )
    return dmc.Stack([page_heading("Overview"), body, dcc.Store(id="overview-first")])


def _heading(entry: Entry, view: Overview) -> Any:
    place = "" if is_local(entry) else f" by the worker {printable(place_name(entry))}"
    words: list[Any] = [" · ".join(view.subtitle), " · captured ", ago(entry.created), place]
    tags = [dmc.Badge(tag, variant="outline", color="gray", radius="sm", tt="none") for tag in entry.tags]
    acts = dmc.Group(
        [
            link_button("Compare", "/compare", icon="compare", before=entry.id),
            link_button("Optimize", "/optimize", icon="optimize", run=entry.id),
        ],
        gap="xs",
    )
    return page_heading(
        printable(entry.name), html.Div([html.Span(words), *tags], className="hb-line hb-subtitle"), acts
    )


def _card(item: KeyFigure) -> Any:
    lines = html.Div([html.Div(line) for line in item.lines])
    tag = origin_badge(False) if item.measured else None
    return kpi(term(item.term, item.label), item.value, lines, tone=item.tone, icon=item.icon, tag=tag)


def _kept(store: Store, entry: Entry) -> list[Any]:
    """Return what stands as this run's answer; nothing where nothing was kept."""
    marks = kept(store, entry.id)
    if not marks:
        return []
    from app.workbench import read_proof

    rows = []
    for mark in marks:
        proof = read_proof(store, mark.experiment)
        rows.append(_kept_line(proof_view(proof.experiment, proof.candidate), mark.user, mark.created))
    text = "Its before was measured again, in the experiment's own sitting: it can differ from the step time above."
    return [section(term("kept", "Kept for this run"), *rows, text=text)]


def _kept_line(view: ProofView, user: str, created: str) -> Any:
    gain = f"{ratio(view.speedup.median)} ({ratio(view.speedup.low)} to {ratio(view.speedup.high)})"
    return dmc.Group(
        [
            verdict_badge(view.verdict),
            html.Span([html.Strong(gain), " step time, 95 % interval"]),
            *_sitting(view),
            origin_badge(False),
            html.Span([f"by {user} ", ago(created)], className="hb-subtitle"),
            link("Experiment", "/experiments", experiment=view.id),
        ],
        gap="sm",
    )


def _sitting(view: ProofView) -> list[Any]:
    if not view.measured:
        return []
    before, after = (milliseconds(median(seconds)) for seconds in (view.before_seconds, view.after_seconds))
    return [html.Span(f"{before} before, {after} after")]


def _lower_cards(entry: Entry, run: Run, view: Overview) -> dict[str, tuple[Any, float]]:
    """Return the cards that stand where there is room, each with about its height in pixels."""
    notes = sum(22 * (1 + len(text) // 60) for text in view.notes)
    cards = {
        "memory": (_memory(run), 90.0 + 29 * len(run.memory.at_peak)),
        "modules": (_modules(entry, view), 90.0 + 29 * len(view.modules)),
    }
    if run.memory.timeline:
        cards["bytes"] = (_live_bytes(), _FIGURE_PIXELS + 90.0)
    cards["capture"] = (_capture(view), 260.0 + notes)
    if view.device:
        cards["device"] = (_device(view), 90.0 + 85 * (1 + len(view.device) // 3))
    return cards


def _memory(run: Run) -> Any:
    shown = sorted(((name, count) for name, count in run.memory.at_peak.items() if count), key=lambda item: -item[1])
    total = sum(count for _, count in shown)
    rows = [
        (name.replace("_", " "), count / total, f"{mebibytes(count)} · {percent(count / total)}", 0)
        for name, count in shown
    ]
    return section(
        "Memory at the peak",
        bars(rows, "Live bytes at the peak by category", [CATEGORY_COLOURS.get(name, GREY) for name, _ in shown]),
        text=f"What the {mebibytes(run.memory.peak_bytes)} at the peak hold.",
        right=origin_badge(False),
    )


def _live_bytes() -> Any:
    room = html.Div(id="overview-bytes", style={"minHeight": f"{_FIGURE_PIXELS}px"})
    return section(
        term("live bytes", "Live bytes over the step"),
        room,
        text="One recorded step; recording slows it, so its clock is not the step time.",
        right=origin_badge(False),
    )


def live_bytes_figure(run: Run) -> Any:
    """Return the figure of live bytes; it is asked for when its place comes near the screen."""
    counts = [count for _, count in run.memory.timeline]
    words = f"Between {mebibytes(min(counts))} and {mebibytes(max(counts))}."
    label = "Live bytes over one recorded step"
    return figure(live_bytes(run.memory.timeline), "live-bytes", label, text=words, height=_FIGURE_PIXELS)


def _device(view: Overview) -> Any:
    text = "Medians of the driver's readings while the timed steps ran, with their quartiles."
    return section("Device", facts(view.device), text=text, right=origin_badge(False))


def _modules(entry: Entry, view: Overview) -> Any:
    rows = [
        (row.path, row.share, f"{milliseconds(row.seconds)} · {percent(row.share)}", row.depth) for row in view.modules
    ]
    body = bars(rows, "Share of self time by module")
    return section(
        "Time by module",
        body,
        text="Self time of all ops in a module, its submodules included.",
        right=link("Graph", "/graph", run=entry.id),
    )


def _capture(view: Overview) -> Any:
    notes = [html.Li(text, className="hb-break") for text in view.notes]
    shown = [html.Div([html.H3("Notes", className="hb-small-title"), html.Ul(notes, className="hb-notes")])]
    return section(
        "What this capture saw",
        facts([(_capture_term(label), value, detail) for label, value, detail in view.coverage]),
        *(shown if notes else []),
        text="What it could not see is said here, not guessed.",
        right=origin_badge(False),
    )


def _capture_term(label: str) -> Any:
    return term("overhead", label) if label == "Overhead" else label


def _where(entry: Entry, view: Overview) -> Any:
    rows = view.environment
    if not is_local(entry):
        rows = (("Worker", printable(place_name(entry)), "it captured this run on its own machine"), *rows)
    return section("Where it was measured", facts(rows), text="A time holds for this device and these versions.")


def register(app: Dash) -> None:
    """Declare what follows the jobs: the first run, and what was kept."""
    client(app, "openRun", Input("overview-first", "data"), prevent_initial_call=True)

    @app.callback(Output("overview-first", "data"), Input("jobs-changed", "data"), prevent_initial_call=True)
    def _first(_changed: object) -> Any:
        runs = context().store.entries("run")
        return runs[0].id if runs else no_update

    client(app, "whenNear", Output("overview-near", "data"), Input("overview-run", "data"))

    @app.callback(Output("overview-bytes", "children"), Input("overview-near", "data"), prevent_initial_call=True)
    def _near(run: str | None) -> Any:
        return live_bytes_figure(loaded_run(context().store, run)) if run else no_update

    @app.callback(
        Output("overview-kept", "children"),
        Input("jobs-changed", "data"),
        State("overview-run", "data"),
        prevent_initial_call=True,
    )
    def _follow(_changed: object, run: str | None) -> Any:
        store = context().store
        return _kept(store, run_entry(store, run)) if run else no_update
