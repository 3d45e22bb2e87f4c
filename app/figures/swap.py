"""A step within a memory budget: bytes over time by category with the copies below, and time over budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.colors import hex_to_rgb
from plotly.subplots import make_subplots

from app.figures.theme import BLUE, CATEGORY_COLOURS, GREY, ORANGE, RED, VIOLET, label
from app.units import mebibytes

if TYPE_CHECKING:
    from app.views.swap import Point
    from optimizers.swap.views import CopyView, Course

MOST_PLACES = 600
"""A course of more events is drawn in as many stretches, each at its highest."""
ORDER = ("parameter", "optimizer_state", "gradient", "input", "activation", "temporary", "unknown", "other")
HEIGHT = 560
_MIB = 2.0**20
_LANES = {"out": ("to", ORANGE), "in": ("from", BLUE)}


def memory_over_step(
    before: Course, after: Course, measured: Sequence[int], budget_bytes: int, lanes: Sequence[CopyView]
) -> go.Figure:
    """Return three rows over one clock: bytes before, bytes as simulated (and as measured), and the copies."""
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.075, row_heights=[0.4, 0.4, 0.2])
    places = _places(before.total_bytes)
    _areas(figure, before, places, 1)
    _line(figure, before.starts_seconds, before.total_bytes, places, 1, "all, before", GREY)
    places = _places(after.total_bytes)
    _areas(figure, after, places, 2)
    _line(figure, after.starts_seconds, after.total_bytes, places, 2, "all, simulated", VIOLET, dash="dot")
    if measured:
        _line(figure, after.starts_seconds, measured, _places(measured), 2, "all, measured", BLUE)
    top = 1.12 * max((*before.total_bytes, *after.total_bytes, *measured, budget_bytes, 1)) / _MIB
    for row, title in ((1, "before, MiB"), (2, "within, MiB")):
        figure.add_hline(y=budget_bytes / _MIB, row=row, col=1, line={"color": RED, "width": 1.2, "dash": "dash"})
        figure.update_yaxes(title={"text": title}, range=[0, top], row=row, col=1)
    _budget_words(figure, budget_bytes)
    _copies(figure, lanes)
    figure.update_xaxes(showgrid=False)
    figure.update_xaxes(title={"text": "since the step began, ms"}, row=3, col=1)
    figure.update_layout(height=HEIGHT, showlegend=False, hovermode="closest", barmode="overlay")
    return figure


def key_of(figure: go.Figure) -> tuple[tuple[str, str, str], ...]:
    """Return (name, colour, "area", "line" or "dots") of what `memory_over_step` drew over time, each name once.

    Beside the figure it can wrap; plotly's own legend takes a phone's width from the plot.
    """
    found: dict[str, tuple[str, str, str]] = {}
    for trace in figure.data:
        if trace.type == "scatter":
            kind = "area" if trace.stackgroup else "dots" if trace.line.dash == "dot" else "line"
            found.setdefault(trace.name, (trace.name, trace.fillcolor or trace.line.color, kind))
    return tuple(sorted(found.values(), key=lambda item: item[2] != "area"))


def time_over_budget(points: Sequence[Point], peak_bytes: int, chosen: Point | None) -> go.Figure:
    """Return simulated step time in ms over the budget in MiB, the chosen budget marked."""
    figure = go.Figure(
        go.Scatter(
            x=[point.budget_bytes / _MIB for point in points],
            y=[point.step_seconds * 1e3 for point in points],
            customdata=[100 * point.budget_bytes / peak_bytes for point in points],
            mode="lines+markers",
            line={"color": VIOLET, "width": 2, "dash": "dot"},
            marker={"size": 7},
            hovertemplate="%{x:,.2f} MiB, %{customdata:.0f} %<br>%{y:.3f} ms, simulated<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[] if chosen is None else [chosen.budget_bytes / _MIB],
            y=[] if chosen is None else [chosen.step_seconds * 1e3],
            mode="markers",
            marker={"color": RED, "size": 14, "symbol": "diamond"},
            hovertemplate="chosen: %{x:,.2f} MiB<br>%{y:.3f} ms, simulated<extra></extra>",
        )
    )
    figure.update_xaxes(title={"text": "memory budget, MiB"})
    figure.update_yaxes(title={"text": "step, simulated, ms"}, rangemode="tozero")
    figure.update_layout(height=260, showlegend=False)
    return figure


def _places(values: Sequence[int]) -> list[int]:
    """Return the events that are drawn: all, or of each stretch the one with the most bytes."""
    count = len(values)
    if count <= MOST_PLACES:
        return list(range(count))
    edges = [count * place // MOST_PLACES for place in range(MOST_PLACES + 1)]
    return [max(range(low, high), key=values.__getitem__) for low, high in pairwise(edges)]


def _areas(figure: go.Figure, course: Course, places: Sequence[int], row: int) -> None:
    parts: Mapping[str, Sequence[int]] = course.parts
    known = [name for name in ORDER if name in parts] + sorted(name for name in parts if name not in ORDER)
    for name in known:
        values = [parts[name][place] / _MIB for place in places]
        if not any(values):
            continue
        colour = CATEGORY_COLOURS.get(name, GREY)
        shown = label(name.replace("_", " "))
        figure.add_trace(
            go.Scatter(
                x=[course.starts_seconds[place] * 1e3 for place in places],
                y=values,
                name=shown,
                stackgroup=f"row {row}",
                mode="lines",
                line={"shape": "hv", "width": 0},
                fillcolor=_pale(colour),
                hovertemplate="%{x:.3f} ms<br>%{y:,.3f} MiB<extra>" + shown + "</extra>",
            ),
            row=row,
            col=1,
        )


def _pale(colour: str) -> str:
    red, green, blue = hex_to_rgb(colour)
    return f"rgba({red},{green},{blue},0.45)"


def _line(
    figure: go.Figure,
    starts: Sequence[float],
    values: Sequence[int],
    places: Sequence[int],
    row: int,
    name: str,
    colour: str,
    dash: str = "solid",
) -> None:
    figure.add_trace(
        go.Scatter(
            x=[starts[place] * 1e3 for place in places],
            y=[values[place] / _MIB for place in places],
            name=name,
            mode="lines",
            line={"shape": "hv", "color": colour, "width": 1.8, "dash": dash},
            hovertemplate="%{x:.3f} ms<br>%{y:,.3f} MiB<extra>" + name + "</extra>",
        ),
        row=row,
        col=1,
    )


def _budget_words(figure: go.Figure, budget_bytes: int) -> None:
    figure.add_annotation(
        x=1,
        xref="x2 domain",
        xanchor="right",
        y=budget_bytes / _MIB,
        yref="y2",
        yanchor="bottom",
        text=f"budget {mebibytes(budget_bytes)}",
        showarrow=False,
    )


def _copies(figure: go.Figure, lanes: Sequence[CopyView]) -> None:
    """Add a bar for each copy, one row of bars for each lane."""
    names = []
    for tier, direction in sorted({(copy.tier, copy.direction) for copy in lanes}, reverse=True):
        word, colour = _LANES[direction]
        own = [copy for copy in lanes if (copy.tier, copy.direction) == (tier, direction)]
        name = f"{word} {label(tier)}"
        names.append(name)
        bars: dict[str, Any] = {
            "base": [copy.start_seconds * 1e3 for copy in own],
            "x": [(copy.end_seconds - copy.start_seconds) * 1e3 for copy in own],
            "y": [name] * len(own),
            "customdata": [[copy.buffer, mebibytes(copy.bytes)] for copy in own],
        }
        figure.add_trace(
            go.Bar(
                **bars,
                orientation="h",
                name=name,
                marker={"color": colour, "line": {"width": 0}},
                hovertemplate="tensor %{customdata[0]}, %{customdata[1]}<br>%{base:.3f} ms, takes %{x:.3f} ms"
                "<extra>" + name + "</extra>",
            ),
            row=3,
            col=1,
        )
    if not names:
        figure.add_annotation(text="no copies: what leaves is made again", x=0.5, xref="x3 domain", y=0.5,
                              yref="y3 domain", showarrow=False)  # fmt: skip
    figure.update_yaxes(showgrid=False, showticklabels=bool(names), row=3, col=1)
