"""Horizontal bars: hot ops, and memory at the peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from app.figures.theme import BLUE, CATEGORY_COLOURS, GREY, ORANGE, RED, label
from app.units import mebibytes, milliseconds, percent

ROW_PIXELS = 30


def hot_ops(ops: Sequence[Mapping[str, Any]], limit: int = 10) -> go.Figure:
    """Return bars of self time; `ops` as in the JSON of `show`. The hottest is on top, and red above a quarter."""
    shown = list(ops[:limit])
    shares = [float(op["share"] or 0.0) for op in shown]
    return _bars(
        names=[label(str(op["name"])) for op in shown],
        values=[float(op["self_seconds"] or 0.0) * 1e3 for op in shown],
        texts=[percent(share) for share in shares],
        colours=[RED if share >= 0.25 else ORANGE if share >= 0.1 else BLUE for share in shares],
        hovers=[
            f"{label(str(op['name']), 80)}<br>{op['count']:,} calls, {milliseconds(op['self_seconds'])}" for op in shown
        ],
        title="self time per step, ms",
    )


def memory_at_peak(categories: Mapping[str, int]) -> go.Figure:
    """Return bars of live bytes by category, in MiB."""
    shown = sorted(((name, count) for name, count in categories.items() if count), key=lambda item: -item[1])
    total = sum(count for _, count in shown)
    return _bars(
        names=[label(name.replace("_", " ")) for name, _ in shown],
        values=[count / 2**20 for _, count in shown],
        texts=[percent(count / total) for _, count in shown],
        colours=[CATEGORY_COLOURS.get(name, GREY) for name, _ in shown],
        hovers=[f"{label(name.replace('_', ' '))}<br>{mebibytes(count)}" for name, count in shown],
        title="live at the peak, MiB",
    )


def _bars(
    names: list[str], values: list[float], texts: list[str], colours: list[str], hovers: list[str], title: str
) -> go.Figure:
    # Categories are positions with labels: two ops may be cut to the same name.
    positions = list(range(len(names)))
    bars = go.Bar(
        x=values,
        y=positions,
        orientation="h",
        text=texts,
        textposition="outside",
        cliponaxis=False,
        marker={"color": colours, "cornerradius": 3},
        customdata=hovers,
        hovertemplate="%{customdata}<extra></extra>",
    )
    figure = go.Figure(bars)
    figure.update_xaxes(title={"text": title}, rangemode="tozero", range=[0, 1.25 * max(values, default=1.0) or 1.0])
    figure.update_yaxes(tickvals=positions, ticktext=names, autorange="reversed", showgrid=False, ticklabelstandoff=8)
    figure.update_layout(height=ROW_PIXELS * max(len(names), 2) + 70, showlegend=False)
    return figure
