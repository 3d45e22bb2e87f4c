"""The machines that do this server's jobs: who they are, how busy, what they offer; an admin lets them in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update
from flask import request

from app.components.ago import ago
from app.components.attributes import attributes
from app.components.badge import badge
from app.components.card import page_heading, section
from app.components.command import command_line
from app.components.empty import empty
from app.components.icons import icon
from app.components.links import link
from app.components.role import needs_role
from app.components.term import explain
from app.revocation import revoke_worker
from app.store import StoreError
from app.store.workers import Worker, Workers
from app.units import MISSING, percent, plural
from app.views.workers import Meter, Offer, WorkerLine, offers_of, worker_command, worker_lines
from app.web.access import person, require
from app.web.context import context

PATH = "/workers"
TITLE = "Workers"
ICON = "workers"
NEEDS_RUN = False
REFRESH_MILLISECONDS = 5000
SHOWN_OFFERS = 50
_COLOURS = {"working": "blue", "ready": "teal", "away": "orange", "never seen": "gray", "revoked": "red"}
_MEANINGS = {
    "working": "It does a job now.",
    "ready": "It waits for a job that it can do.",
    "away": "Nothing was heard of it for 30 seconds. See whether it runs, and whether it reaches this server.",
    "never seen": "Its token was made, but nobody has used it yet.",
    "revoked": "Its token holds no longer: it gets no job and no answer.",
}
_ABOUT = (
    "A worker is another machine, such as one with a GPU, that does jobs with its own workload files. It calls this "
    "server; this server never calls it and never sends it code."
)


def layout(query: Mapping[str, str]) -> Any:
    """Return the workers, what they offer, and for an admin the way to let one in."""
    everybody = _workers().list()
    may = person().may("admin")
    return dmc.Stack(
        [
            page_heading("Workers", _ABOUT),
            html.Div(worker_table(everybody), id="workers-list"),
            *([_add_form()] if may else needs_role("adding or revoking a worker", "admin")),
            html.Div(offered(everybody), id="workers-offers"),
            *([_revoke_dialog()] if may else []),
            dcc.Store(id="workers-changed", data=0),
            dcc.Interval(id="workers-tick", interval=REFRESH_MILLISECONDS),
        ]
    )


def worker_table(everybody: Sequence[Worker]) -> Any:
    """Return the table of all workers, or what to do where there is none."""
    may = person().may("admin")
    if not everybody:
        who = "Add one below" if may else "Ask an admin of this server to add one"
        return empty("No worker yet", f"{who}, then type the shown command on the machine.", icon="workers")
    lines = worker_lines(everybody, context().jobs.list(live=True, limit=1000))
    names = ["Worker", "Device", "In use", "Last seen", "Doing", *(["Access"] if may else [])]
    head = dmc.TableThead(dmc.TableTr([dmc.TableTh(name) for name in names]))
    body = dmc.TableTbody([_row(line, may) for line in lines])
    table = dmc.Table([head, body], verticalSpacing="sm")
    return section("Machines", dmc.TableScrollContainer(table, minWidth=860, type="native"))


def offered(everybody: Sequence[Worker]) -> Any:
    """Return the workloads of each worker that may work, closed until somebody opens one."""
    known = [(worker, offers_of(worker)) for worker in everybody if worker.revoked is None and worker.seen is not None]
    if not known:
        return []
    items = [
        dmc.AccordionItem(
            [
                dmc.AccordionControl(
                    f"{worker.name}: {plural(sum(not offer.problem for offer in offers), 'workload')}", fz="sm"
                ),
                dmc.AccordionPanel(_offer_list(offers)),
            ],
            value=worker.id,
        )
        for worker, offers in known
    ]
    text = "Functions in the worker's own folders that give a Workload. Capture one from the runs page."
    return section("Workloads offered", dmc.Accordion(items, variant="separated", multiple=True, order=3), text=text)


def register(app: Dash) -> None:
    """Declare the table that follows what workers say, and the acts of adding and revoking one."""

    @app.callback(
        Output("workers-list", "children"),
        Input("workers-tick", "n_intervals"),
        Input("jobs-changed", "data"),
        Input("workers-changed", "data"),
        prevent_initial_call=True,
    )
    def _follow(*_: object) -> Any:
        return worker_table(_workers().list())

    @app.callback(
        Output("workers-token", "children"),
        Output("workers-name", "error"),
        Output("workers-name", "value"),
        Output("workers-changed", "data"),
        Input("workers-add", "n_clicks"),
        State("workers-name", "value"),
        prevent_initial_call=True,
    )
    def _add(clicks: int | None, name: str | None) -> Any:
        if not clicks:
            return no_update, no_update, no_update, no_update
        who = require("admin")
        try:
            worker, token = _workers().add((name or "").strip(), who.name)
        except StoreError as error:
            return no_update, str(error), no_update, no_update
        return _token_card(worker, token, request.host_url), None, "", clicks

    @app.callback(
        Output("workers-revoke", "opened"),
        Output("workers-revoke-name", "children"),
        Output("workers-revoke-id", "data"),
        Output("workers-revoke-command", "children"),
        Input({"type": "workers-revoke", "worker": ALL}, "n_clicks"),
        Input("workers-revoke-no", "n_clicks"),
        prevent_initial_call=True,
    )
    def _ask(clicks: list[int | None], _no: int | None) -> Any:
        chosen = ctx.triggered_id
        if not isinstance(chosen, dict):
            return False, no_update, no_update, no_update
        if not any(clicks):
            # The table was drawn anew: nobody clicked.
            return no_update, no_update, no_update, no_update
        require("admin")
        name = _workers().get(chosen["worker"]).name
        return True, name, chosen["worker"], command_line(f"hotbench workers revoke {name}")

    @app.callback(
        Output("workers-revoke", "opened", allow_duplicate=True),
        Output("workers-changed", "data", allow_duplicate=True),
        Output("workers-offers", "children"),
        Input("workers-revoke-yes", "n_clicks"),
        State("workers-revoke-id", "data"),
        prevent_initial_call=True,
    )
    def _revoke(clicks: int | None, id: str) -> Any:
        if not clicks:
            return no_update, no_update, no_update
        require("admin")
        revoke_worker(context().store, context().jobs, id)
        return False, -clicks, offered(_workers().list())


def _row(line: WorkerLine, may: bool) -> dmc.TableTr:
    cells = [
        _named(line),
        html.Div([dmc.Text(line.device, size="sm"), dmc.Text(" and ".join(line.devices), size="xs", c="dimmed")]),
        html.Div([_meter(meter) for meter in line.meters], className="hb-meters") if line.meters else MISSING,
        ago(line.seen) if line.seen else MISSING,
        link(line.job.title, "/jobs", job=line.job.id) if line.job is not None else MISSING,
        *([_revoke_button(line)] if may else []),
    ]
    return dmc.TableTr([dmc.TableTd(cell, fz="sm") for cell in cells])


def _named(line: WorkerLine) -> html.Div:
    host = f"on {line.host}" if line.host and line.host != line.name else ""
    details = [dmc.Text(host, size="xs", c="dimmed")] if host else []
    name = dmc.Text(line.name, size="sm", fw=600, className="hb-break")
    state = explain(
        badge(line.state, _COLOURS[line.state]), " ".join(filter(None, (_MEANINGS[line.state], line.versions)))
    )
    return html.Div([dmc.Group([name, state], gap="xs"), *details])


def _meter(meter: Meter) -> html.Div:
    words = percent(meter.fraction, 0)
    fill = html.Span(className="hb-meter-fill", style={"width": f"{100 * meter.fraction:.0f}%"})
    bar = html.Span(fill, className="hb-meter-track", **attributes(aria_hidden="true"))
    return html.Div([html.Span(meter.label), bar, html.Span(words)], className="hb-meter")


def _revoke_button(line: WorkerLine) -> Any:
    if line.revoked is not None:
        return dmc.Text(["revoked ", ago(line.revoked)], size="xs", c="dimmed")
    return dmc.Button(
        "Revoke",
        id={"type": "workers-revoke", "worker": line.id},
        variant="default",
        size="compact-sm",
        **attributes(aria_label=f"Revoke the token of {line.name}"),
    )


def _add_form() -> dmc.Paper:
    name = dmc.TextInput(
        id="workers-name",
        label="Name of the new worker",
        placeholder="gpu-1",
        description="Letters, digits, dots and dashes.",
        w={"base": "100%", "xs": 320},
    )
    add = dmc.Button("Add worker", id="workers-add", leftSection=icon("plus", 16))
    return section(
        "Let a worker in",
        dmc.Group([name, add], align="end", gap="sm"),
        html.Div(id="workers-token", **attributes(aria_live="polite")),
        command_line("hotbench workers add NAME"),
        text="It gets a token of its own, which can be revoked at any time.",
    )


def _token_card(worker: Worker, token: str, server: str) -> dmc.Alert:
    """Return the only sight of a new token, in the command to type."""
    lines = [
        dmc.Text(f"Type this on the machine of {worker.name}, with DIR the folder of its workload files:", size="sm"),
        command_line(worker_command(token, server.rstrip("/")), "Start the worker", here=False),
        dmc.Text("The token in it is shown this once. Whoever has it gets jobs and hands in results.", size="sm"),
    ]
    return dmc.Alert(
        dmc.Stack(lines, gap="xs"), title=f"{worker.name} may do jobs", color="teal", icon=icon("check", 18)
    )


def _revoke_dialog() -> html.Div:
    same = html.Div(id="workers-revoke-command")
    acts = [
        dmc.Button("Keep it", id="workers-revoke-no", variant="default"),
        dmc.Button("Revoke", id="workers-revoke-yes", color="red"),
    ]
    words = [
        "The token of ",
        html.Strong(id="workers-revoke-name"),
        " will not be taken any more. A job that it does now fails. To let the machine in again, add it anew.",
    ]
    return html.Div(
        [
            dcc.Store(id="workers-revoke-id"),
            dmc.Modal(
                dmc.Stack([dmc.Text(words, size="sm"), dmc.Group(acts, justify="end"), same]),
                id="workers-revoke",
                title="Revoke this worker?",
                centered=True,
                closeButtonProps={"aria-label": "Close"},
            ),
        ]
    )


def _offer_list(offers: Sequence[Offer]) -> Any:
    if not offers:
        return dmc.Text("None: no function in its folders is annotated as `-> Workload`.", size="sm", c="dimmed")
    shown = [_offer(offer) for offer in offers[:SHOWN_OFFERS]]
    more = len(offers) - len(shown)
    rest = [dmc.Text(f"and {more} more", size="sm", c="dimmed")] if more else []
    return dmc.Stack([*shown, *rest], gap="xs")


def _offer(offer: Offer) -> html.Div:
    words = (
        dmc.Text(offer.problem, size="xs", c="red.9") if offer.problem else dmc.Text(offer.about, size="xs", c="dimmed")
    )
    return html.Div([html.Code(offer.name, className="hb-mono hb-break"), words])


def _workers() -> Workers:
    return Workers(context().store.database)
