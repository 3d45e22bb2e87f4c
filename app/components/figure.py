"""Figures on a page: plotly with a name, a text, a height and the colours of the scheme."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from dash import dcc, html

from app.components.attributes import attributes
from app.components.scheme import dark
from app.figures.theme import template

CONFIG: Any = {"displayModeBar": False, "displaylogo": False, "responsive": True, "scrollZoom": False}


def figure(fig: go.Figure, id: Any, label: str, *, text: str = "", height: int | None = None) -> html.Figure:
    """Return the figure with an accessible name `label` and a `text` that says what it shows, for screen readers.

    It comes in the scheme of the request; assets/scheme.js changes its template when the scheme changes.
    Its height is its own layout's, unless one is given.
    """
    shown = go.Figure(fig)
    shown.update_layout(template=template(dark()), height=height or fig.layout.height or 300)
    # The wrapper is the image: what plotly draws has no names of its own.
    graph = dcc.Graph(id=id, figure=shown, config=CONFIG, style={"height": f"{shown.layout.height}px"})
    caption = html.Figcaption(text or label, className="hb-hidden")
    return html.Figure([html.Div(graph, role="img", **attributes(aria_label=label)), caption], className="hb-figure")


def templates() -> dict[str, Any]:
    """Return both templates as plain JSON, for the client's change of scheme."""
    return {"light": template(False).to_plotly_json(), "dark": template(True).to_plotly_json()}
