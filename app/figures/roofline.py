"""The roofline: what kernels reach, before and after, under the ceilings of the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from app.figures.theme import BLUE, GREY, TEAL, label
from app.units import digits
from app.views.regions import RegionsView

_SPAN = 3.0
"""How far the ceilings are drawn beyond the points, as a factor on each side."""


@dataclass(frozen=True, slots=True)
class Point:
    """One kernel: FLOP/s reached at FLOP a byte, before and after."""

    name: str
    intensity_before: float
    flops_before: float
    intensity_after: float
    flops_after: float


def points_of(view: RegionsView) -> list[Point]:
    """Return each kept kernel's place in the roofline, where its work, bytes and times are known."""
    found = []
    for region in view.regions:
        eager, fused = region.way("eager"), region.way("fused")
        known = region.kept and region.flops and region.bytes_before and region.bytes_after
        if known and eager and fused and eager.seconds and fused.seconds:
            found.append(
                Point(
                    region.key,
                    region.flops / region.bytes_before,
                    region.flops / eager.seconds,
                    region.flops / region.bytes_after,
                    region.flops / fused.seconds,
                )
            )
    return found


def roofline(points: Sequence[Point], peak_flops: float, peak_bytes: float, chosen: str = "") -> go.Figure:
    """Return FLOP/s over FLOP a byte, both logarithmic: a line from before to after for each kernel.

    peak_flops, peak_bytes: the device's ceilings in FLOP/s and B/s; 0.0 where none is known. chosen: a name to mark.
    """
    figure = go.Figure()
    values = [value for p in points for value in (p.intensity_before, p.intensity_after)]
    low, high = min(values, default=0.1) / _SPAN, max(values, default=10.0) * _SPAN
    if peak_flops and peak_bytes:
        ridge = peak_flops / peak_bytes
        high = max(high, 2 * ridge)
        x = [low, ridge, high] if low < ridge else [low, high]
        y = [min(value * peak_bytes, peak_flops) / 1e9 for value in x]
        figure.add_trace(
            go.Scatter(x=x, y=y, mode="lines", line={"color": GREY, "width": 2}, hoverinfo="skip", name="ceiling")
        )
    shown = [p for p in points if p.name == chosen] if chosen else list(points)
    lines_x = [value for p in shown for value in (p.intensity_before, p.intensity_after, None)]
    lines_y = [value for p in shown for value in (p.flops_before / 1e9, p.flops_after / 1e9, None)]
    figure.add_trace(
        go.Scatter(
            x=lines_x,
            y=lines_y,
            mode="lines",
            line={"color": GREY, "width": 1, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    for name, colour, symbol, xs, ys in (
        ("eager", BLUE, "circle", [p.intensity_before for p in points], [p.flops_before for p in points]),
        ("fused", TEAL, "diamond", [p.intensity_after for p in points], [p.flops_after for p in points]),
    ):
        figure.add_trace(
            go.Scatter(
                x=xs,
                y=[value / 1e9 for value in ys],
                mode="markers",
                name=name,
                marker={
                    "color": colour,
                    "symbol": symbol,
                    "size": [13 if p.name == chosen else 8 for p in points],
                    "opacity": [1.0 if not chosen or p.name == chosen else 0.25 for p in points],
                },
                customdata=[[label(p.name, 60), digits(y / 1e9)] for p, y in zip(points, ys, strict=True)],
                hovertemplate="%{customdata[0]}, " + name + "<br>%{x:.3g} FLOP a byte, %{customdata[1]} GFLOP/s"
                "<extra></extra>",
            )
        )
    figure.update_xaxes(title={"text": "FLOP a byte moved"}, type="log")
    figure.update_yaxes(title={"text": "GFLOP/s"}, type="log")
    figure.update_layout(height=320, legend={"orientation": "h", "y": 1.12, "x": 0})
    return figure
