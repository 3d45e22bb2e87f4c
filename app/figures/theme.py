"""Colours that read on white and on near-black, and the templates of both schemes."""

from __future__ import annotations

import html

import plotly.graph_objects as go

from app.units import printable

BLUE, TEAL, ORANGE, RED, VIOLET, GREY = "#4c7df0", "#0f9d78", "#e0700f", "#e5484d", "#8e6cf0", "#868e96"
CATEGORY_COLOURS = {
    "parameter": BLUE,
    "gradient": ORANGE,
    "optimizer_state": VIOLET,
    "activation": TEAL,
    "temporary": "#d6409f",
    "input": "#c29a0b",
    "unknown": GREY,
}
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


def template(dark: bool) -> go.layout.Template:
    """Return the template of one scheme: text, grid and hover labels; the background stays the page's."""
    text, faint, grid, panel = ("#e6e8eb", "#b4bac2", "#343a42", "#22262c") if dark else (
        "#1d2430", "#4d5766", "#e3e7ed", "#ffffff")  # fmt: skip
    axis = {
        "gridcolor": grid,
        "zerolinecolor": grid,
        "linecolor": grid,
        "tickfont": {"color": faint},
        "title": {"font": {"color": faint, "size": 13}, "standoff": 10},
        "automargin": True,
    }
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 13, "color": text},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": axis,
            "yaxis": axis,
            "hoverlabel": {"bgcolor": panel, "bordercolor": grid, "font": {"color": text, "family": FONT}},
            "legend": {"font": {"color": text}},
            "margin": {"l": 8, "r": 16, "t": 8, "b": 8},
            "bargap": 0.32,
        }
    )


def label(text: str, longest: int = 34) -> str:
    """Return a name as plotly shows it literally: plotly reads some tags in labels, and names are not ours."""
    shown = printable(text)
    return html.escape(shown if len(shown) <= longest else f"{shown[: longest - 1]}…", quote=False)
