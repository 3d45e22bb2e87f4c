"""Everything known of one op, beside the grid and beside the graph."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html

from app.components.attributes import attributes
from app.components.badge import badge
from app.components.client import client
from app.components.links import link
from app.components.term import term
from app.units import gigaflops, mebibytes, milliseconds, plural, printable, quantity
from app.views.operators import OpDetails, TensorLine

NOTHING = "Select an op to see its tensors, its line and its time."


def nothing_selected(text: str = NOTHING) -> dmc.Text:
    """Return what stands where no op is selected."""
    return dmc.Text(text, size="sm", c="dimmed")


def wanted() -> dcc.Store:
    """Return the store that a click on a neighbour fills; every page with details holds it."""
    return dcc.Store(id="op-wanted")


def register(app: Dash) -> None:
    """Let a click on a neighbour select it (assets/operators.js); declared once, for every page with details."""
    client(
        app, "opWanted", Output("selection", "data", allow_duplicate=True), Input("op-wanted", "data"),
        State("selection", "data"), prevent_initial_call=True,
    )  # fmt: skip


def details(run: str, found: OpDetails) -> dmc.Stack:
    """Return an op's figures, tensors, neighbours and arguments."""
    row = found.row
    title = dmc.Title(printable(row["name"]), order=3, className="hb-section-title hb-break hb-mono")
    marks = [badge(f"op {found.index:,}"), badge(row["phase"])]
    if not row["executes"]:
        marks.append(badge("only calls others"))
    parts: list[Any] = [
        dmc.Stack([title, dmc.Group(marks, gap=6)], gap=6),
        _figures(run, found),
        *_tensors(run, "Inputs", "from", found.inputs),
        *_tensors(run, "Outputs", "to", found.outputs),
    ]
    if found.arguments:
        parts += [_heading("Arguments"), pairs([(name, html.Code(value)) for name, value in found.arguments])]
    if found.kernels:
        lines = [(name, milliseconds(seconds)) for name, seconds in found.kernels]
        parts += [_heading("Kernels"), pairs(lines)]
    return dmc.Stack(parts, gap="xs")


def _figures(run: str, found: OpDetails) -> Any:
    row = found.row
    lines: list[tuple[Any, Any]] = [(term("self time"), _time(row["self_seconds"]))]
    if row["device_seconds"] is not None:
        lines.append(("on the device", _time(row["device_seconds"])))
    lines += [
        ("work", gigaflops(row["flops"])),
        ("moved", mebibytes(row["bytes_moved"])),
        ("module", dmc.Text(printable(row["scope"]) or "outside a module", className="hb-break", inherit=True)),
        ("line", html.Code(printable(row["source"])) if row["source"] else "not known"),
    ]
    for name, other in (("called by", found.parent), ("gradient of", found.forward)):
        if other is not None:
            lines.append((name, _op_link(run, other)))
    return pairs(lines)


def _time(measured: Any) -> str:
    if measured is None:
        return "not measured: the timing pass did not see it"
    between = f"{quantity(measured['low'], 's')} to {quantity(measured['high'], 's')}"
    return f"{quantity(measured['median'], 's')} (half of {plural(measured['samples'], 'sample')}: {between})"


def _tensors(run: str, title: str, word: str, lines: tuple[TensorLine, ...]) -> list[Any]:
    return [_heading(title), *(_tensor(run, word, line) for line in lines)] if lines else []


def _tensor(run: str, word: str, line: TensorLine) -> html.Div:
    about = [line.layout, mebibytes(line.nbytes), line.category.replace("_", " ")]
    if line.alias:
        about.append(line.alias)
    links: list[Any] = []
    for other in line.links:
        links += [", " if links else f"{word} ", _op_link(run, other)]
    if line.more:
        links.append(f" and {line.more:,} more")
    return html.Div(
        [
            html.Div([html.Strong(line.shape), f" {line.dtype}"]),
            dmc.Text(" · ".join(about), size="xs", c="dimmed"),
            dmc.Text(links, size="xs", className="hb-break") if links else None,
        ],
        className="hb-tensor",
    )


def _op_link(run: str, other: tuple[int, str]) -> html.Button:
    """Return a button that selects another op: the page stays where it is (assets/operators.js listens)."""
    index, name = other
    return html.Button(f"{name} ({index:,})", type="button", className="hb-op-link", **attributes(data_op=str(index)))


def _heading(text: str) -> dmc.Title:
    return dmc.Title(text, order=4, size="h6", mt=4)


def pairs(lines: Any) -> html.Dl:
    """Return (name, value) lines."""
    parts: list[Any] = []
    for name, value in lines:
        parts += [html.Dt(name), html.Dd(value)]
    return html.Dl(parts, className="hb-pairs")


def findings(run: str, found: Any) -> Any:
    """Return the findings that name an op, each with a link to it on the Overview."""
    if not found:
        return None
    lines = [
        dmc.Text(
            [link(printable(finding.title), "/", run=run, finding=finding.id), " ", badge("predicted", "violet"),
             f" {quantity(finding.estimate.mid, finding.estimate.unit)}"],
            size="sm", className="hb-break",
        )
        for finding in found
    ]  # fmt: skip
    return dmc.Stack([_heading("Findings"), *lines], gap="xs")
