"""An experiment: step times of each variant, and the speedup against noise floor and prediction."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from analyzer.measurement import Estimate, Measurement
from app.figures.theme import BLUE, GREY, ORANGE, RED, TEAL, VIOLET
from app.units import ratio

_VERDICT_COLOURS = {"faster": TEAL, "smaller": TEAL, "slower": RED, "refused": RED}


def distributions(before: Sequence[float], after: Sequence[float], again: Sequence[float]) -> go.Figure:
    """Return one half violin with its samples for each variant, over step time in ms."""
    figure = go.Figure()
    for name, values, colour in (("before, again", again, GREY), ("before", before, BLUE), ("after", after, TEAL)):
        figure.add_trace(
            go.Violin(
                x=[value * 1e3 for value in values],
                y0=name,
                name=name,
                orientation="h",
                side="positive",
                width=1.5,
                points="all",
                pointpos=-0.18,
                jitter=0.12,
                marker={"size": 4, "opacity": 0.55},
                meanline={"visible": False},
                box={"visible": True, "width": 0.12},
                spanmode="hard",
                line={"color": colour, "width": 1.6},
                hoveron="points",
                hovertemplate="%{x:.4f} ms<extra>" + name + "</extra>",
            )
        )
    figure.update_xaxes(title={"text": "step time, ms"})
    figure.update_yaxes(showgrid=False)
    figure.update_layout(height=330, showlegend=False)
    return figure


def speedup(measured: Measurement, floor: Measurement, predicted: Estimate | None, verdict: str) -> go.Figure:
    """Return intervals of speedup: measured beside predicted, with the noise floor as a band around 1×."""
    rows: list[tuple[str, float, float, float, str, str]] = [
        ("measured", measured.low, measured.median, measured.high, _VERDICT_COLOURS.get(verdict, ORANGE), "solid")
    ]
    if predicted is not None:
        rows.append(("predicted", predicted.low, predicted.mid, predicted.high, VIOLET, "dot"))
    rows.append(("noise floor", floor.low, floor.median, floor.high, GREY, "solid"))
    figure = go.Figure()
    figure.add_vrect(x0=floor.low, x1=floor.high, fillcolor=GREY, opacity=0.25, line={"width": 0})
    figure.add_vline(x=1, line={"color": GREY, "width": 1, "dash": "dot"})
    for name, low, middle, high, colour, dash in rows:
        figure.add_trace(
            go.Scatter(x=[low, high], y=[name, name], mode="lines", line={"color": colour, "width": 6, "dash": dash},
                       hoverinfo="skip")
        )  # fmt: skip
        figure.add_trace(
            go.Scatter(x=[middle], y=[name], mode="markers+text", text=[f"{ratio(middle)}"], textposition="top center",
                       marker={"color": colour, "size": 13, "symbol": "diamond" if dash == "dot" else "circle"},
                       customdata=[[ratio(low), ratio(high)]], cliponaxis=False,
                       hovertemplate=name + " %{text}<br>%{customdata[0]} to %{customdata[1]}<extra></extra>")
        )  # fmt: skip
    figure.update_xaxes(title={"text": "speedup, before over after (1× is equal)"}, ticksuffix="×")
    figure.update_yaxes(autorange="reversed", showgrid=False, range=[len(rows) - 0.4, -0.7])
    figure.update_layout(height=74 * len(rows) + 60, showlegend=False)
    return figure
