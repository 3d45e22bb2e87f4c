"""All runs: find, tag, compare, delete; and the panel that makes a new one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update

from app.components import new_run, run_acts
from app.components.attributes import attributes
from app.components.card import page_heading, section
from app.components.empty import empty
from app.components.grid import grid
from app.components.icons import icon
from app.store import Store
from app.units import plural
from app.views.runs import (
    INFERENCE,
    TRAINING,
    RunFilter,
    chosen,
    filter_text,
    read_filter,
    run_row,
    values_of,
)
from app.web.access import person
from app.web.context import context

PATH = "/runs"
TITLE = "Runs"
ICON = "runs"
NEEDS_RUN = False
_FIELDS = ("search", "device", "mode", "tag", "place")


def layout(query: Mapping[str, str]) -> Any:
    """Return the panel for a new run and the list as the address's filter has it."""
    wanted = read_filter(query.get("filter"))
    rows = all_rows(context().store)
    return dmc.Stack(
        [
            page_heading("Runs", _subtitle()),
            html.Div(_first_steps(), id="runs-empty", hidden=bool(rows)),
            section("New run", new_run.new_run()),
            html.Div(_list(rows, wanted), id="runs-list", hidden=not rows),
            dcc.Store(id="runs-touched"),
        ],
        gap="md",
    )


def _subtitle() -> str:
    # Where the store lies on the server is for those who run it.
    return f"In the store {context().store.label}" if person().may("admin") else "Every capture of this store"


def _first_steps() -> Any:
    text = (
        "A run is one capture of a workload: every op with its time, the tensors between them, and memory. "
        "Choose a workload below, or type the command; a small model takes half a minute."
    )
    return empty("Capture your first run", text, icon="runs")


def all_rows(store: Store) -> list[dict[str, Any]]:
    """Return every run of the store as a row, newest first."""
    return [run_row(entry) for entry in store.entries("run")]


def _list(rows: Sequence[dict[str, Any]], wanted: RunFilter) -> Any:
    shown = chosen(rows, wanted)
    listed = grid(
        "runs-grid",
        _COLUMNS,
        "Runs",
        rows=shown,
        options={
            "rowSelection": {"mode": "multiRow", "enableClickSelection": True, "headerCheckbox": False},
            "domLayout": "autoHeight" if len(shown) <= 12 else "normal",
        },
        height="auto" if len(shown) <= 12 else "520px",
    )
    return section(
        "Captured",
        _filters(rows, wanted),
        html.Div(run_acts.selected([]), id="runs-selected", **attributes(aria_live="polite")),
        listed,
        html.Div(_count(len(shown), len(rows)), id="runs-count", className="hb-subtitle"),
        html.Div(id="runs-dialog"),
    )


def _count(shown: int, every: int) -> str:
    return plural(every, "run") if shown == every else f"{shown:,} of {plural(every, 'run')} fit the filter"


_COLUMNS: list[dict[str, Any]] = [
    {
        "field": "name", "headerName": "Name", "minWidth": 190, "flex": 2, "cellRenderer": "HotbenchLink",
        "tooltipField": "name",
        "cellRendererParams": {"path": "/", "parameter": "run"},
    },
    {"field": "mode", "headerName": "Mode", "width": 100},
    {"field": "device", "headerName": "Device", "minWidth": 110, "flex": 1, "tooltipField": "device"},
    {
        "field": "step_seconds", "headerName": "Step time", "type": "rightAligned", "width": 108,
        "valueFormatter": {"function": "params.data.step_words"},
    },
    {
        "field": "peak_bytes", "headerName": "Peak memory", "type": "rightAligned", "width": 134,
        "valueFormatter": {"function": "params.data.peak_words"},
    },
    {
        "field": "ops", "headerName": "Ops", "type": "rightAligned", "width": 90,
        "valueFormatter": {"function": "d3.format(',')(params.value)"},
    },
    {"field": "tag_words", "headerName": "Tags", "minWidth": 110, "flex": 1, "cellRenderer": "HotbenchTags",
     "tooltipField": "tag_words"},
    {
        "field": "created", "headerName": "Captured", "width": 150, "sort": "desc",
        "valueFormatter": {"function": "params.data.created_words"}, "headerTooltip": "UTC",
    },
    {"field": "place", "headerName": "Where", "width": 125},
]  # fmt: skip


def _filters(rows: Sequence[dict[str, Any]], wanted: RunFilter) -> Any:
    search = dmc.TextInput(
        id="runs-search",
        label="Search",
        placeholder="Name, id, tag, device",
        value=wanted.search,
        leftSection=icon("search", 16),
        debounce=250,
        className="hb-field-wide",
    )
    modes = [INFERENCE, TRAINING]
    return html.Div(
        [
            search,
            _select("device", "Device", values_of(rows, "device"), wanted.device),
            _select("mode", "Mode", modes, wanted.mode),
            _select("tag", "Tag", values_of(rows, "tags"), wanted.tag),
            _select("place", "Where", values_of(rows, "place"), wanted.place),
        ],
        className="hb-form",
    )


def _select(name: str, label: str, values: Sequence[str], value: str) -> dmc.Select:
    data = [*values] if not value or value in values else [*values, value]
    return dmc.Select(
        id=f"runs-{name}", label=label, placeholder="All", data=data, value=value or None, clearable=True,
        className="hb-field", clearButtonProps={"aria-label": f"Show all: {label}"},
    )  # fmt: skip


def register(app: Dash) -> None:
    """Declare the filters, the selection and its acts, and the list that follows the jobs."""
    new_run.register(app)
    fields = [Input(f"runs-{name}", "value") for name in _FIELDS]

    @app.callback(
        Output("runs-grid", "rowData"),
        Output("runs-count", "children"),
        Output("runs-empty", "hidden"),
        Output("runs-list", "hidden"),
        Output("runs-device", "data"),
        Output("runs-tag", "data"),
        Output("runs-place", "data"),
        Output("selection", "data", allow_duplicate=True),
        *fields,
        Input("runs-touched", "data"),
        State("selection", "data"),
        prevent_initial_call=True,
    )
    def _fill(*values: Any) -> tuple[Any, ...]:
        *given, _touched, selection = values
        wanted = RunFilter(*(str(value or "") for value in given))
        rows = all_rows(context().store)
        shown = chosen(rows, wanted)
        text = filter_text(wanted) or None
        changed = (selection or {}).get("filter") != text
        return (
            shown,
            _count(len(shown), len(rows)),
            bool(rows),
            not rows,
            *(values_of(rows, name) for name in ("device", "tags", "place")),
            {**(selection or {}), "filter": text} if changed else no_update,
        )

    # By way of a store of this page: jobs change on other pages too, where the filters are not.
    @app.callback(
        Output("runs-touched", "data", allow_duplicate=True), Input("jobs-changed", "data"), prevent_initial_call=True
    )
    def _follow(changed: Mapping[str, Any] | None) -> Any:
        return time.time() if (changed or {}).get("state") == "done" else no_update

    @app.callback(Output("runs-selected", "children"), Input("runs-grid", "selectedRows"), prevent_initial_call=True)
    def _select_rows(rows: Sequence[Mapping[str, Any]] | None) -> Any:
        return run_acts.selected(rows or [])

    run_acts.register(app)
