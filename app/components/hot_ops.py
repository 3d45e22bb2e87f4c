"""Where a step's time goes by kind of op: a table with bars, from which each kind's ops are reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dash import html

from app.components.badge import origin_badge
from app.components.card import section
from app.components.facts import bar_fill
from app.components.links import link
from app.components.term import term
from app.derived.query import OpsQuery, query_text
from app.figures.theme import ORANGE, RED
from app.units import gigaflops, mebibytes, milliseconds, percent, plural, printable
from app.views.overview import Overview

_ROW_PIXELS = 34


def hot_ops(run: str, view: Overview) -> Any:
    """Return the hottest ops with a bar each; a name leads to its ops, the slowest of them selected."""
    text = f"{len(view.hot_ops)} of {plural(view.op_names, 'kind')} of op; each leads to its ops."
    if not view.hot_ops:
        text = "No op was timed."
    return section(
        html.Span(["Hot ops by ", term("self time")]),
        *([_op_table(run, view)] if view.hot_ops else []),
        *([html.Div(view.between, className="hb-subtitle")] if view.between else []),
        text=text,
        right=origin_badge(False),
    )


def hot_ops_pixels(view: Overview) -> float:
    """Return about how high the card is on a wide screen."""
    return 190.0 + _ROW_PIXELS * len(view.hot_ops)


def _op_table(run: str, view: Overview) -> Any:
    head = ("Op", "Share", "Self time", "Calls", "Work", "Moved")
    titles = html.Thead(html.Tr([html.Th(word, scope="col") for word in head]))
    most = max(float(op["share"] or 0.0) for op in view.hot_ops)
    rows = [_op_row(run, op, most) for op in view.hot_ops]
    table = html.Table([titles, html.Tbody(rows)], id="hot-ops", className="hb-table hb-hot")
    return html.Div(table, className="hb-scroll", tabIndex=0)


def _op_row(run: str, op: Mapping[str, Any], most: float) -> html.Tr:
    name = printable(op["name"])
    where = link(name, "/operators", run=run, filter=name_filter(op["name"]), op=str(op["hottest"]))
    share = float(op["share"] or 0.0)
    colour = RED if share >= 0.25 else ORANGE if share >= 0.1 else ""
    track = html.Span(bar_fill(share / most if most else 0.0, colour), className="hb-bar-track")
    figures = (f"{op['count']:,}", gigaflops(op["flops"]), mebibytes(op["bytes"]))
    return html.Tr(
        [
            html.Td(where, title=name),
            html.Td(html.Div([track, html.Span(percent(share))], className="hb-hot-share")),
            html.Td(milliseconds(op["self_seconds"])),
            *(html.Td(words) for words in figures),
        ]
    )


def name_filter(name: str) -> str:
    """Return the Operators page's filter that shows the ops of one name, the slowest first."""
    equal = {"filterType": "text", "type": "equals", "filter": name}
    return query_text(OpsQuery(filters={"name": equal}, sort=(("self_seconds", "desc"),)))
