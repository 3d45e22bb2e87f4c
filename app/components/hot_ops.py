"""Where a step's time goes by kind of op: bars, a table that says the same, and the kind that was clicked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dash import html

from app.components.attributes import attributes
from app.components.badge import origin_badge
from app.components.card import section
from app.components.figure import figure
from app.components.links import link
from app.components.term import term
from app.derived.query import OpsQuery, query_text
from app.figures import bars
from app.units import gigaflops, mebibytes, milliseconds, percent, plural, printable
from app.views.overview import Overview


def hot_ops(run: str, view: Overview) -> Any:
    """Return the figure of the hottest ops, room for the one that is clicked, and the same as a table."""
    top = view.hot_ops[0] if view.hot_ops else None
    words = f"{top['name']} takes most: {percent(top['share'])} of self time." if top else "No op was timed."
    text = f"{len(view.hot_ops)} of {plural(view.op_names, 'kind')} of op; click a bar to look closer."
    table = html.Details(
        [html.Summary("As a table"), _op_table(run, view)],
        className="hb-more",
    )
    return section(
        html.Span(["Hot ops by ", term("self time")]),
        figure(bars.hot_ops(view.hot_ops), "hot-ops", "Hot ops by self time", text=words),
        html.Div(id="overview-op", className="hb-live", **attributes(aria_live="polite")),
        *([html.Div(view.between, className="hb-subtitle")] if view.between else []),
        table,
        text=text,
        right=origin_badge(False),
    )


def hot_ops_pixels(view: Overview) -> float:
    """Return about how high the card is on a wide screen."""
    return 250.0 + bars.ROW_PIXELS * max(len(view.hot_ops), 2)


def _op_table(run: str, view: Overview) -> Any:
    head = ("Op", "Calls", "Self time", "Share", "Work", "Bytes moved")
    rows = [
        html.Tr(
            [
                html.Td(link(printable(op["name"]), "/operators", run=run, filter=name_filter(op["name"]))),
                *(html.Td(words) for words in _op_words(op)),
            ]
        )
        for op in view.hot_ops
    ]
    titles = html.Thead(html.Tr([html.Th(word, scope="col") for word in head]))
    return html.Div(html.Table([titles, html.Tbody(rows)], className="hb-table"), className="hb-scroll", tabIndex=0)


def _op_words(op: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"{op['count']:,}",
        milliseconds(op["self_seconds"]),
        percent(op["share"]),
        gigaflops(op["flops"]),
        mebibytes(op["bytes"]),
    )


def name_filter(name: str) -> str:
    """Return the Operators page's filter that shows the ops of one name, the slowest first."""
    equal = {"filterType": "text", "type": "equals", "filter": name}
    return query_text(OpsQuery(filters={"name": equal}, sort=(("self_seconds", "desc"),)))


def chosen_op(run: str, op: Mapping[str, Any]) -> Any:
    """Return what is known of the kind of op that was clicked, and the way to each of them."""
    calls, seconds, share, work, moved = _op_words(op)
    words = f"{calls} calls, {seconds} self time ({share}), {work}, {moved} moved"
    return html.Div(
        [
            html.Strong(op["name"]),
            html.Span(words),
            link("Show each", "/operators", run=run, filter=name_filter(op["name"])),
        ],
        className="hb-line",
    )
