"""Every op of a run in one grid that the server sorts and filters, and what is known of the one selected."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Mapping
from typing import Any, cast

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update

from analyzer.errors import HotbenchError
from app.components import op_details as panel
from app.components.attributes import attributes
from app.components.card import card, page_heading
from app.components.client import client
from app.components.command import command_line
from app.components.empty import empty, problem
from app.components.grid import grid
from app.components.icons import icon
from app.components.links import href, link_button
from app.components.op_details import details, findings, nothing_selected, wanted
from app.derived.columns import read_columns
from app.derived.ops import open_ops
from app.derived.query import By, OpsQuery, count_rows, position_of, query_text, read_query, rows
from app.store import Store
from app.units import plural
from app.views.loaded import loaded_diagnosis
from app.views.operators import (
    BLOCK_ROWS,
    Column,
    block,
    display_row,
    for_list,
    op_details,
    requested,
    scaled,
    shown_columns,
)
from app.web.context import context

PATH = "/operators"
TITLE = "Operators"
ICON = "operators"
NEEDS_RUN = True

_TEXT_FILTERS = ["contains", "notContains", "equals", "notEqual", "startsWith", "endsWith"]
_NUMBER_FILTERS = [
    "greaterThan", "greaterThanOrEqual", "lessThan", "lessThanOrEqual", "equals", "notEqual", "inRange",
]  # fmt: skip


def layout(query: Mapping[str, str]) -> Any:
    """Return the grid as the address's filter has it, and the details of the op in the address."""
    if "run" not in query:
        return empty("No run yet", "Capture a workload on the Runs page.", link_button("To the runs", "/runs"), order=1)
    store = context().store
    run = store.find(query["run"], ("run",))
    chosen = read_query(query.get("filter"))
    # The table is made while the browser still paints: it then asks for rows that are there.
    threading.Thread(target=prepare, args=(store, run.id), daemon=True).start()
    heading = page_heading("Operators", f"{run.name} · {plural(run.summary.get('ops', 0), 'op')}, one step")
    return dmc.Stack(
        [
            heading,
            wanted(),
            dcc.Store(id="operators-place-of"),
            dcc.Store(id="operators-run", data={"run": run.id, "device": run.summary.get("device", "cpu")}),
            dmc.Grid(
                [
                    dmc.GridCol(_list(run.id, chosen, str(run.summary.get("device"))), span={"base": 12, "lg": 8.5}),
                    dmc.GridCol(_panel(), span={"base": 12, "lg": 3.5}),
                ],
                gutter="md",
            ),
            html.Div(command_line(csv_command(run.id, chosen)), id="operators-command"),
        ],
        gap="md",
    )


def prepare(store: Store, run: str) -> None:
    """Make the run's table of ops if it is missing. An error is left to the request that needs the table."""
    try:
        with open_ops(store, run):
            return
    except HotbenchError:
        return


def _list(run: str, query: OpsQuery, device: str) -> dmc.Paper:
    search = dmc.TextInput(
        id="operators-search", value=query.search, placeholder="Name, module or line", debounce=250,
        leftSection=icon("search", 16), className="hb-operators-search", **attributes(aria_label="Search the ops"),
    )  # fmt: skip
    by = dmc.SegmentedControl(
        id="operators-by", value=query.by, data=[{"value": "op", "label": "Ops"}, {"value": "name", "label": "Names"}],
        **attributes(aria_label="One row for each op or for each name"),
    )  # fmt: skip
    clear = dmc.Button(
        "Clear filters", id="operators-clear", variant="default", leftSection=icon("close", 16), disabled=True
    )
    download = dmc.Anchor(
        [icon("download", 16), "CSV"], id="operators-csv", href=csv_href(run, query), className="hb-button",
        underline="never", refresh=True, target="_blank",
    )  # fmt: skip
    bar = dmc.Group([search, by, clear, download], gap="xs", className="hb-bar")
    count = html.Div(id="operators-count", role="status", className="hb-subtitle", style={"minHeight": "22px"})
    place = html.Div(ops_grid(query, device), id="operators-place")
    return card(dmc.Stack([bar, count, place], gap="xs"))


def _panel() -> dmc.Paper:
    return card(
        html.Div(nothing_selected(), id="operators-details"),
        html.Div(id="operators-findings", style={"marginTop": "12px"}),
        dmc.Group(id="operators-links", mt="sm"),
        className="hb-side",
    )


def csv_href(run: str, query: OpsQuery) -> str:
    """Return the address of exactly these rows as CSV."""
    return href(f"/api/runs/{run}/operators.csv", filter=query_text(query))


def csv_command(run: str, query: OpsQuery) -> str:
    """Return the command that writes exactly these rows as CSV."""
    text = query_text(query)
    return f"hotbench show {run} --csv operators.csv" + (f" --filter {shlex.quote(text)}" if text else "")


def ops_grid(query: OpsQuery, device: str) -> Any:
    """Return the grid of a list, with the query's filters and order set."""
    order = {column: (way, place) for place, (column, way) in enumerate(query.sort)}
    return grid(
        "operators-grid",
        [_definition(column, order) for column in shown_columns(query.by, device != "cpu")],
        "Operators",
        options={
            "cacheBlockSize": BLOCK_ROWS,
            "maxBlocksInCache": 20,
            # The component answers the latest request only: two at once would leave one block empty for ever.
            "maxConcurrentDatasourceRequests": 1,
            "blockLoadDebounceMillis": 40,
            "rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
            "multiSortKey": "ctrl",
        },
        height="clamp(320px, calc(100vh - 330px), 900px)",
        filterModel=scaled(query.filters, to_si=False),
        persistence=False,
    )


def _definition(column: Column, order: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    number = bool(column.scale)
    definition: dict[str, Any] = {
        "field": column.name,
        "headerName": column.heading,
        "width": column.width,
        "filter": "agNumberColumnFilter" if number else "agTextColumnFilter",
        "filterParams": {
            "filterOptions": _NUMBER_FILTERS if number else _TEXT_FILTERS,
            "buttons": ["reset"],
            "debounceMs": 300,
            "maxNumConditions": 2,
        },
    }
    if number:
        definition["type"] = "rightAligned"
    else:
        definition["tooltipField"] = column.name
    if column.flexible:
        definition |= {"flex": 1, "minWidth": column.width}
    if column.name == "share":
        definition["cellStyle"] = {"function": "shareBar(params)"}
    if column.name in order:
        definition |= {"sort": order[column.name][0], "sortIndex": order[column.name][1]}
    return definition


def register(app: Dash) -> None:
    """Declare the grid's rows, its order and filter in the address, and the details of the selected op."""
    panel.register(app)

    @app.callback(
        Output("operators-grid", "getRowsResponse"),
        Output("operators-count", "children"),
        Output("operators-csv", "href"),
        Output("operators-command", "children"),
        Output("operators-clear", "disabled"),
        Output("selection", "data", allow_duplicate=True),
        Input("operators-grid", "getRowsRequest"),
        State("operators-by", "value"),
        State("operators-search", "value"),
        State("operators-run", "data"),
        State("selection", "data"),
        prevent_initial_call=True,
    )
    def _rows(request: Any, by: str, search: str | None, about: Any, selection: Any) -> tuple[Any, ...]:
        if not request:
            return (no_update,) * 6
        try:
            query = requested(request, cast(By, by), search or "")
            answer, words = read_rows(context().store, about["run"], query, request)
        except HotbenchError as error:
            return {"rowData": [], "rowCount": 0}, problem(str(error)), no_update, no_update, False, no_update
        text = query_text(query)
        changed = (selection or {}).get("filter") != (text or None)
        now = {**(selection or {}), "filter": text or None} if changed else no_update
        bare = not (query.filters or query.search)
        same = command_line(csv_command(about["run"], query))
        return answer, words, csv_href(about["run"], query), same, bare, now

    @app.callback(
        Output("operators-place", "children"),
        Input("operators-by", "value"),
        State("operators-run", "data"),
        State("selection", "data"),
        prevent_initial_call=True,
    )
    def _by(by: str, about: Any, selection: Any) -> Any:
        query = for_list(read_query((selection or {}).get("filter")), cast(By, by))
        return ops_grid(query, about["device"])

    @app.callback(
        Output("operators-details", "children"),
        Output("operators-links", "children"),
        Input("selection", "data"),
        State("operators-run", "data"),
    )
    def _details(selection: Any, about: Any) -> tuple[Any, Any]:
        op = (selection or {}).get("op")
        if op is None:
            return nothing_selected(), None
        found = op_details(read_columns(context().store, about["run"]), int(op))
        return details(about["run"], found), link_button(
            "Show in the graph", "/graph", icon="graph", run=about["run"], op=op
        )

    @app.callback(Output("operators-findings", "children"), Input("selection", "data"), State("operators-run", "data"))
    def _findings(selection: Any, about: Any) -> Any:
        op = (selection or {}).get("op")
        if op is None:
            return None
        diagnosis = loaded_diagnosis(context().store, about["run"])
        return findings(about["run"], [finding for finding in diagnosis.findings if op in finding.ops])

    @app.callback(
        Output("operators-place-of", "data"),
        Input("selection", "data"),
        Input("operators-place", "children"),
        State("operators-run", "data"),
    )
    def _place(selection: Any, _place: Any, about: Any) -> Any:
        op = (selection or {}).get("op")
        if op is None:
            return None
        with open_ops(context().store, about["run"]) as connection:
            place = position_of(connection, read_query((selection or {}).get("filter")), int(op))
        return {"op": int(op), "place": place}

    client(app, "operatorsSearch", Output("operators-count", "title"), Input("operators-search", "value"),
           prevent_initial_call=True)  # fmt: skip
    client(app, "operatorsClear", Output("operators-search", "value"), Input("operators-clear", "n_clicks"),
           prevent_initial_call=True)  # fmt: skip
    client(app, "operatorsShow", Output("operators-count", "lang"), Input("operators-place-of", "data"))
    client(
        app, "operatorsSelect", Output("selection", "data", allow_duplicate=True),
        Input("operators-grid", "selectedRows"), State("selection", "data"), prevent_initial_call=True,
    )  # fmt: skip


def read_rows(store: Store, run: str, query: OpsQuery, request: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the rows that the grid asks for, as it takes them, and how many there are in words."""
    start, count = block(request)
    with open_ops(store, run) as connection:
        total = count_rows(connection, query)
        found = [display_row(dict(row)) for row in rows(connection, query, start, count)]
    noun = "op" if query.by == "op" else "name"
    chosen = " chosen by the filter" if query.filters or query.search else ""
    return {"rowData": found, "rowCount": total}, f"{plural(total, noun)}{chosen}"
