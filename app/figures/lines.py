"""Live bytes over one step."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from app.figures.theme import GREY, TEAL
from app.units import mebibytes


def live_bytes(timeline: Sequence[tuple[float, int]]) -> go.Figure:
    """Return live MiB over ms since the step began; a value holds until the next one. The peak is marked."""
    times = [seconds * 1e3 for seconds, _ in timeline]
    values = [count / 2**20 for _, count in timeline]
    figure = go.Figure(
        go.Scatter(
            x=times,
            y=values,
            mode="lines",
            line={"shape": "hv", "color": TEAL, "width": 1.6},
            fill="tozeroy",
            fillcolor="rgba(15,157,120,0.18)",
            hovertemplate="%{x:.3f} ms<br>%{y:.3f} MiB<extra></extra>",
        )
    )
    if timeline:
        peak = max(range(len(values)), key=values.__getitem__)
        figure.add_hline(y=values[peak], line={"color": GREY, "width": 1, "dash": "dot"})
        figure.add_annotation(
            x=1,
            xref="paper",
            xanchor="right",
            y=values[peak],
            yanchor="bottom",
            text=f"peak {mebibytes(timeline[peak][1])}",
            showarrow=False,
        )
    figure.update_xaxes(title={"text": "since the step began, ms"}, showgrid=False)
    figure.update_yaxes(
        title={"text": "live, MiB"}, rangemode="tozero", range=[0, 1.18 * max(values, default=1.0) or 1]
    )
    figure.update_layout(height=280, showlegend=False)
    return figure
