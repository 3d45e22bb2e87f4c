"""Several workers: where a step's time goes for each backend, its course, and how it scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from app.figures.theme import BLUE, GREY, ORANGE, RED, TEAL, VIOLET, label

if TYPE_CHECKING:
    from optimizers.placement.scale import ScaleCurve
    from optimizers.placement.views import BackendView, Span

COMPUTE, EXPOSED = TEAL, ORANGE
KIND_COLOURS = {"forward": BLUE, "backward": TEAL, "optimizer": VIOLET, "exchange": ORANGE}
BACKEND_COLOURS = {"hotbench": TEAL, "gloo": BLUE, "grpc-flat": ORANGE, "grpc": RED}
MOST_SPANS = 2000
_HATCH = {"fgcolor": "rgba(255,255,255,0.6)", "size": 7, "solidity": 0.35}
_DASHES = {"hotbench": "solid", "gloo": "dash", "grpc-flat": "dashdot", "grpc": "dot"}


def split_bars(backends: Sequence[BackendView]) -> go.Figure:
    """Return two bars for each backend, compute and the communication that it waits for: predicted, then measured."""
    rows: list[str] = []
    parts: dict[str, list[float]] = {"compute": [], "exposed": []}
    patterns: list[str] = []
    for item in reversed(backends):
        for origin, found in (("measured", _measured(item)), ("predicted", _predicted(item))):
            if found is not None:
                rows.append(f"{label(item.title)}<br>{origin}")
                parts["compute"].append(found[0] * 1e3)
                parts["exposed"].append(found[1] * 1e3)
                patterns.append("" if origin == "measured" else "/")
    figure = go.Figure()
    for name, words, colour in (("compute", "compute", COMPUTE), ("exposed", "exposed communication", EXPOSED)):
        figure.add_trace(
            go.Bar(
                x=parts[name],
                y=rows,
                name=words,
                orientation="h",
                marker={"color": colour, "pattern": {"shape": patterns, "fillmode": "overlay", **_HATCH}},
                hovertemplate="%{y}<br>" + words + " %{x:,.3f} ms<extra></extra>",
            )
        )
    figure.update_layout(barmode="stack", height=90 + 46 * len(rows), legend=_below(), bargap=0.3)
    figure.update_xaxes(title={"text": "a step, ms"}, rangemode="tozero")
    figure.update_yaxes(showgrid=False)
    return figure


def _predicted(item: BackendView) -> tuple[float, float] | None:
    return None if item.predicted is None else (item.predicted.compute_seconds, item.predicted.exposed_seconds)


def _measured(item: BackendView) -> tuple[float, float] | None:
    return None if item.measured is None else (item.measured.compute.median, item.measured.exposed.median)


def _below() -> dict[str, Any]:
    return {"orientation": "h", "yanchor": "bottom", "y": 1.0, "xanchor": "left", "x": 0}


def step_course(spans: Sequence[Span]) -> go.Figure:
    """Return the simulated step: a row for each lane, a bar for each task."""
    figure = go.Figure()
    shown = spans[:MOST_SPANS]
    for kind, colour in KIND_COLOURS.items():
        own = [span for span in shown if span.kind == kind]
        if not own:
            continue
        figure.add_trace(
            go.Bar(
                base=[span.start_seconds * 1e3 for span in own],
                x=[(span.end_seconds - span.start_seconds) * 1e3 for span in own],
                y=[label(span.lane) for span in own],
                customdata=[label(span.name) for span in own],
                orientation="h",
                name=kind,
                marker={"color": colour, "line": {"width": 0.6, "color": "rgba(255,255,255,0.7)"}},
                hovertemplate="%{customdata}<br>%{base:,.3f} ms, takes %{x:,.3f} ms<extra>" + kind + "</extra>",
            )
        )
    lanes = len({span.lane for span in shown})
    figure.update_layout(barmode="overlay", height=110 + 42 * lanes, legend=_below())
    figure.update_xaxes(title={"text": "since the step began, simulated, ms"}, rangemode="tozero")
    figure.update_yaxes(showgrid=False, autorange="reversed")
    return figure


def scale_lines(curves: Sequence[ScaleCurve], titles: dict[str, str], chosen: int | None = None) -> go.Figure:
    """Return simulated step time in ms over the number of workers, a line for each backend, both axes logarithmic."""
    figure = go.Figure()
    for curve in curves:
        colour = BACKEND_COLOURS.get(curve.backend, GREY)
        title = label(titles.get(curve.backend, curve.backend))
        figure.add_trace(
            go.Scatter(
                x=[point.world_size for point in curve.points],
                y=[point.step.mid * 1e3 for point in curve.points],
                customdata=[
                    [point.step.low * 1e3, point.step.high * 1e3, 100 * point.efficiency] for point in curve.points
                ],
                mode="lines+markers",
                name=title,
                line={"color": colour, "width": 2, "dash": _DASHES.get(curve.backend, "solid")},
                marker={"size": 6},
                hovertemplate="%{x:,} workers: %{y:,.3f} ms, simulated<br>%{customdata[0]:,.3f} to "
                "%{customdata[1]:,.3f} ms<br>%{customdata[2]:.1f} % of a worker alone<extra>" + title + "</extra>",
            )
        )
    if chosen:
        figure.add_vline(x=chosen, line={"color": GREY, "width": 1, "dash": "dot"})
    figure.update_layout(height=340, legend=_below())
    worlds = sorted({point.world_size for curve in curves for point in curve.points})
    figure.update_xaxes(title={"text": "workers"}, type="log", tickvals=worlds, ticktext=[f"{w:,}" for w in worlds])
    figure.update_yaxes(title={"text": "step, simulated, ms"}, type="log")
    return figure
