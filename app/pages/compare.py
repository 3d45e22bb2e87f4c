"""Two runs against each other: what is stored at once, and a verdict by measuring both anew in turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update

from analyzer.errors import HotbenchError
from app.components.badge import badge, verdict_badge
from app.components.card import page_heading, section
from app.components.client import client
from app.components.command import command_line
from app.components.empty import empty, note
from app.components.grid import grid
from app.components.icons import icon
from app.components.jobs import job_progress
from app.components.links import link, link_button
from app.components.role import allowed, needs_role
from app.components.term import term
from app.components.verdict import verdict_panel
from app.jobs.job import Job
from app.store import Entry
from app.units import verdict_reason
from app.views.compare import Line, StoredComparison, compare_needs, compare_stored, counts_words
from app.views.experiments import proof_view
from app.views.loaded import loaded_run, run_entry
from app.views.runs import run_label
from app.web.access import require
from app.web.context import context

PATH = "/compare"
TITLE = "Compare"
ICON = "compare"
NEEDS_RUN = False


def layout(query: Mapping[str, str]) -> Any:
    """Return the comparison of the two runs in the address, or the choice of them."""
    entries = context().store.entries("run")
    before = _named(query.get("before") or query.get("run"))
    after = _named(query.get("after"))
    heading = page_heading("Compare two runs", "Which is faster, and which ops differ.")
    if len(entries) < 2:
        text = "A comparison needs two runs: two workloads, or one before and after a change."
        return dmc.Stack([heading, empty("Too few runs", text, link_button("To the runs", "/runs"), icon="compare")])
    parts: list[Any] = [heading, section("Runs", _choice(entries, before, after))]
    if before is None or after is None:
        parts.append(note("Choose both runs."))
    elif before.id == after.id:
        parts.append(note("These are one and the same run: choose another one.", colour="orange", icon="warning"))
    else:
        parts += _comparison(before, after)
    return dmc.Stack(parts, gap="md")


def _named(text: str | None) -> Entry | None:
    return run_entry(context().store, text) if text else None


def _choice(entries: tuple[Entry, ...], before: Entry | None, after: Entry | None) -> Any:
    data = [{"value": entry.id, "label": run_label(entry)} for entry in entries]

    def select(name: str, label: str, entry: Entry | None) -> dmc.Select:
        return dmc.Select(
            id=f"compare-{name}", label=label, data=data, value=entry.id if entry else None, searchable=True,
            allowDeselect=False, placeholder="Choose a run", nothingFoundMessage="No such run",
            className="hb-field-wide",
        )  # fmt: skip

    swap = dmc.Button("Swap", id="compare-swap", variant="default", leftSection=icon("compare", 16))
    return html.Div([select("before", "Before", before), select("after", "After", after), swap], className="hb-form")


def _comparison(before: Entry, after: Entry) -> list[Any]:
    store = context().store
    stored = compare_stored(loaded_run(store, before.id), loaded_run(store, after.id))
    return [
        section(
            html.Span(["Measured anew, ", term("interleaved")]),
            html.Div(measured(before, after), id="compare-measured"),
            text="Both are built from their files and run in turns in one sitting: only this gives a verdict.",
        ),
        _stored(stored),
        _ops(stored),
        dcc.Store(id="compare-pair", data={"before": before.id, "after": after.id}),
    ]


def measured(before: Entry, after: Entry) -> Any:
    """Return the verdict of the latest comparison of this pair, or how far it is, and the act that measures it."""
    needs = compare_needs(before, after)
    command = command_line(f"hotbench compare {before.id} {after.id}")
    if isinstance(needs, str):
        return note(needs, colour="orange", icon="warning")
    job = latest_job(before.id, after.id)
    parts: list[Any] = []
    if job is not None and not (job.state == "done" and job.result):
        parts.append(job_progress(job, "compare"))
    if job is not None and job.state == "done" and job.result:
        parts.append(_verdict(job.result))
    if job is None or not job.live:
        word = "Measure both anew" if job is None else "Measure again"
        parts.append(
            dmc.Group(
                [
                    dmc.Button(
                        word, id="compare-start", leftSection=icon("play", 16), disabled=not allowed(),
                        variant="filled" if job is None else "default",
                    )
                ]
            )
        )  # fmt: skip
        parts += needs_role("measuring")
    return dmc.Stack([*parts, command], gap="md")


def latest_job(before: str, after: str) -> Job | None:
    """Return the latest job that compared these two, in this order; None if there is none."""
    pair = {"before": before, "after": after}
    jobs = context().jobs.list(about=before)
    return next((job for job in jobs if job.kind == "compare" and dict(job.arguments) == pair), None)


def _verdict(result: Mapping[str, Any]) -> Any:
    if result.get("experiment"):
        from app.workbench import read_proof

        proof = read_proof(context().store, str(result["experiment"]))
        view = proof_view(proof.experiment, proof.candidate)
        return dmc.Stack(
            [verdict_panel(view), link("Open the experiment", "/experiments", experiment=view.id)], gap="sm"
        )
    verdict, reason = str(result.get("verdict", "")), str(result.get("reason", ""))
    words = html.Span([verdict_reason(verdict, reason)], className="hb-break")
    return dmc.Group([verdict_badge(verdict), badge("not interleaved", "orange"), words], gap="sm")


def _stored(stored: StoredComparison) -> Any:
    parts: list[Any] = [_table(stored.lines)]
    if stored.unlike:
        unlike = [html.Li(f"{what}: {a} before, {b} after", className="hb-break") for what, a, b in stored.unlike]
        parts.insert(
            0,
            note(
                html.Ul(unlike, className="hb-notes"), "Taken in different circumstances: these times do not compare",
                "orange", "warning",
            ),
        )  # fmt: skip
    return section(
        "As they were captured",
        *parts,
        text="Two sittings, each measured on its own: a machine may have been slower in one of them. No verdict.",
        right=badge("not interleaved", "orange"),
    )


def _table(lines: tuple[Line, ...]) -> Any:
    titles = [html.Th(word, scope="col") for word in ("Before", "After", "After over before")]
    head = html.Thead(html.Tr([html.Td(), *titles]))
    rows = [
        html.Tr([html.Th(line.label, scope="row"), html.Td(line.before), html.Td(line.after), html.Td(line.change)])
        for line in lines
    ]
    return html.Div(html.Table([head, html.Tbody(rows)], className="hb-table"), className="hb-scroll", tabIndex=0)


_COLUMNS: list[dict[str, Any]] = [
    {"field": "change", "headerName": "Change", "width": 105},
    {"field": "name", "headerName": "Op", "minWidth": 180, "flex": 1},
    {"field": "scope", "headerName": "Module", "minWidth": 160, "flex": 1},
    {"field": "calls", "headerName": "Calls", "type": "rightAligned", "width": 120, "sortable": False},
    {"field": "before", "headerName": "Before", "type": "rightAligned", "width": 110,
     "valueFormatter": {"function": "params.data.before_words"}},
    {"field": "after", "headerName": "After", "type": "rightAligned", "width": 110,
     "valueFormatter": {"function": "params.data.after_words"}},
    {"field": "gain", "headerName": "Difference", "type": "rightAligned", "width": 125,
     "valueFormatter": {"function": "params.data.gain_words"}},
]  # fmt: skip


def _ops(stored: StoredComparison) -> Any:
    words = counts_words(stored.counts)
    if not stored.ops:
        return section("Ops", text=words)
    short = len(stored.ops) <= 10
    listed = grid(
        "compare-ops",
        _COLUMNS,
        "Ops that differ",
        rows=stored.ops,
        options={"domLayout": "autoHeight"} if short else {},
        height="auto" if short else "460px",
    )
    total = sum(count for _, count in stored.counts)
    rest = f" The {len(stored.ops)} with the largest difference are listed." if total > len(stored.ops) else ""
    return section("Ops", listed, text=f"{words} A kind is a name in a module; times are self times a step.{rest}")


def register(app: Dash) -> None:
    """Declare the choice of runs, and the act of measuring them."""
    client(
        app, "comparePair", Input("compare-before", "value"), Input("compare-after", "value"),
        Input("compare-swap", "n_clicks"), prevent_initial_call=True,
    )  # fmt: skip

    @app.callback(
        Output("compare-measured", "children"),
        Input("compare-start", "n_clicks"),
        State("compare-pair", "data"),
        prevent_initial_call=True,
    )
    def _start(clicks: int | None, pair: Mapping[str, str]) -> Any:
        if not clicks:
            return no_update
        start(pair["before"], pair["after"])
        return _again(pair)

    @app.callback(
        Output("compare-measured", "children", allow_duplicate=True),
        Input("jobs-changed", "data"),
        State("compare-pair", "data"),
        prevent_initial_call=True,
    )
    def _follow(changed: Mapping[str, Any] | None, pair: Mapping[str, str] | None) -> Any:
        job = latest_job(pair["before"], pair["after"]) if pair else None
        return _again(pair) if pair and job is not None and (changed or {}).get("job") == job.id else no_update


def _again(pair: Mapping[str, str]) -> Any:
    store = context().store
    return measured(run_entry(store, pair["before"]), run_entry(store, pair["after"]))


def start(before: str, after: str) -> Job:
    """Submit the job that measures both anew, as the person of this request; return it.

    Raises Forbidden for a viewer, HotbenchError where no machine can do it or it is done already.
    """
    who = require("editor")
    shared = context()
    first, second = run_entry(shared.store, before), run_entry(shared.store, after)
    needs = compare_needs(first, second)
    if isinstance(needs, str):
        raise HotbenchError(needs)
    running = latest_job(first.id, second.id)
    if running is not None and running.live:
        raise HotbenchError(f"{running.id} measures these two already; wait for it or cancel it")
    return shared.jobs.submit(
        "compare",
        {"before": first.id, "after": second.id},
        title=f"Compare {first.name} with {second.name}",
        user=who.name,
        needs=needs,
        about=first.id,
    )
