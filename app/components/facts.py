"""Facts: a label, a value with its unit, and what it is; many of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import html

from app.components.attributes import attributes

Row = tuple[Any, Any, Any]
"""(label, value, detail)"""


def facts(rows: Sequence[Row]) -> html.Dl:
    """Return the facts as a list that fills its width with columns."""
    return html.Dl([_fact(*row) for row in rows], className="hb-facts")


def _fact(label: Any, value: Any, detail: Any) -> html.Div:
    lines = [html.Dt(label), html.Dd(value, className="hb-facts-value")]
    if detail:
        lines.append(html.Dd(detail, className="hb-facts-detail"))
    return html.Div(lines)


def evidence(rows: Sequence[tuple[Any, Any]]) -> html.Dl:
    """Return (label, value) pairs in lines, for many small figures."""
    return html.Dl([html.Div([html.Dt(label), html.Dd(value)]) for label, value in rows], className="hb-evidence")


def bars(rows: Sequence[tuple[str, float, str, int]], label: str, colours: Sequence[str] = ()) -> html.Ul:
    """Return (text, share from 0 to 1, words, depth) as rows with a bar each; `depth` indents."""
    colour = dict(enumerate(colours))
    items = [_bar(*row, colour.get(place, "")) for place, row in enumerate(rows)]
    return html.Ul(items, className="hb-bars", **attributes(aria_label=label))


def bar_fill(share: float, colour: str = "") -> html.Span:
    """Return the coloured part of a bar, `share` of its track from 0 to 1; the usual colour unless one is given."""
    style = {"width": f"{100 * min(max(share, 0.0), 1.0):.2f}%"} | ({"background": colour} if colour else {})
    return html.Span(className="hb-bar-fill", style=style)


def _bar(text: str, share: float, words: str, depth: int, colour: str) -> html.Li:
    return html.Li(
        [
            html.Span(text, className="hb-bar-text", style={"paddingLeft": f"{14 * depth}px"}, title=text),
            html.Span(bar_fill(share, colour), className="hb-bar-track"),
            html.Span(words, className="hb-bar-words"),
        ]
    )
