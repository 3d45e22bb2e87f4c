"""Compression: what each layer loses in each form, accuracy over size and speed, weights with their centroids."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from app.figures.theme import BLUE, GREY, ORANGE, RED, TEAL, VIOLET, label
from app.units import mebibytes, percent, ratio

if TYPE_CHECKING:
    from optimizers.quantization.views import Histogram, LayerView, PointView

LEAST_LOSS = 1e-9
"""Losses below this are drawn here: a logarithmic axis has no 0."""
_COLOURS = {"int8": BLUE, "int8-weight-only": TEAL, "bfloat16": GREY, "kmeans-4": ORANGE, "kmeans-3": VIOLET,
            "kmeans-2": RED, "kmeans-1": "#d6409f", "float": GREY}  # fmt: skip
_SYMBOLS = {"int8": "circle", "int8-weight-only": "square", "bfloat16": "cross", "kmeans-4": "diamond",
            "kmeans-3": "triangle-up", "kmeans-2": "triangle-down", "kmeans-1": "star"}  # fmt: skip
_METHODS = {"prune": ("#8d5524", "hexagon"), "low-rank": ("#0b7285", "pentagon"), "kmeans": ("#b07d00", "diamond-open")}
"""Colour and symbol of forms whose names end with a degree, such as prune-0.5 or kmeans-4-pruned-0.5."""
_MIB = 2.0**20


def sensitivity(layers: tuple[LayerView, ...]) -> go.Figure:
    """Return 1 - cosine of the answers with one layer alone in a form, over the layers; what was chosen has a ring."""
    figure = go.Figure()
    drawn = [layer for layer in layers if any(form.name != "float" and not form.refusal for form in layer.forms)]
    names = list(dict.fromkeys(form.name for layer in drawn for form in layer.forms if form.name != "float"))
    for name in names:
        points = [
            (place, layer, form)
            for place, layer in enumerate(drawn)
            for form in layer.forms
            if form.name == name and not form.refusal
        ]
        colour, symbol = _drawn_as(name)
        figure.add_trace(
            go.Scatter(
                x=[place for place, _, _ in points],
                y=[max(1.0 - form.cosine, LEAST_LOSS) for _, _, form in points],
                customdata=[
                    [label(layer.name or "the model"), mebibytes(form.bytes), percent(form.agreement, 2),
                     ", chosen" if layer.chosen == name else ""]
                    for _, layer, form in points
                ],
                name=name,
                mode="markers",
                marker={
                    "color": colour,
                    "symbol": symbol,
                    "size": [13 if layer.chosen == name else 7 for _, layer, _ in points],
                    "opacity": [1.0 if layer.chosen == name else 0.65 for _, layer, _ in points],
                    "line": {"color": colour, "width": 1},
                },
                hovertemplate="%{customdata[0]}<br>1 − cosine %{y:.3g}, agreement %{customdata[2]}<br>%{customdata[1]}"
                "<extra>" + name + "%{customdata[3]}</extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(
        title={"text": "layers, in the order of the model"}, showgrid=False, tickmode="array",
        tickvals=[], range=[-0.6, max(len(drawn), 1) - 0.4],
    )  # fmt: skip
    figure.update_yaxes(title={"text": "1 − cosine, this layer alone"}, type="log", dtick=1, exponentformat="power")
    figure.update_layout(height=320, showlegend=False, hovermode="closest")
    return figure


def forms_key(layers: tuple[LayerView, ...]) -> tuple[tuple[str, str], ...]:
    """Return (form, colour) of what `sensitivity` draws: beside the figure a key can wrap."""
    names = dict.fromkeys(form.name for layer in layers for form in layer.forms if form.name != "float")
    return tuple((name, _drawn_as(name)[0]) for name in names)


def _drawn_as(name: str) -> tuple[str, str]:
    """Return a form's colour and symbol."""
    if name in _COLOURS:
        return _COLOURS[name], _SYMBOLS.get(name, "circle")
    return next((drawn for method, drawn in _METHODS.items() if name.startswith(method)), (GREY, "circle"))


def front(points: tuple[PointView, ...], bytes_before: int, min_cosine: float | None) -> go.Figure:
    """Return 1 - cosine over size of every mix measured, its speedup beside it; hollow: the gate refuses it."""
    figure = go.Figure()
    if min_cosine is not None and min_cosine < 1:
        figure.add_hline(y=1 - min_cosine, line={"color": RED, "width": 1.2, "dash": "dash"})
        figure.add_annotation(
            x=1, xref="paper", xanchor="right", y=_log10(1 - min_cosine), yref="y", yanchor="bottom",
            text=f"gate: cosine {min_cosine:g}", showarrow=False,
        )  # fmt: skip
    for chosen, passing, name, symbol, colour in (
        (False, False, "refused by the gate", "circle-open", RED),
        (False, True, "passes", "circle", BLUE),
        (True, True, "chosen", "diamond", TEAL),
    ):
        own = [point for point in points if (point.chosen, not point.reason) == (chosen, passing)]
        figure.add_trace(
            go.Scatter(
                x=[point.bytes / _MIB for point in own],
                y=[max(1.0 - point.cosine, LEAST_LOSS) for point in own],
                text=[ratio(point.speedup) for point in own],
                customdata=[
                    [label(point.name, 60), percent(point.bytes / max(bytes_before, 1)), percent(point.agreement, 2)]
                    for point in own
                ],
                name=name,
                mode="markers+text",
                textposition="bottom center" if chosen else "top center",
                cliponaxis=False,
                marker={"color": colour, "symbol": symbol, "size": 14 if chosen else 10, "line": {"width": 2}},
                hovertemplate="%{customdata[0]}<br>%{x:,.3f} MiB, %{customdata[1]} of before<br>1 − cosine %{y:.3g}, "
                "agreement %{customdata[2]}<br>%{text} as quick<extra>" + name + "</extra>",
            )
        )
    figure.update_xaxes(title={"text": "weights as stored, MiB"}, rangemode="tozero")
    figure.update_yaxes(title={"text": "1 − cosine of the answers"}, type="log", dtick=1, exponentformat="power")
    figure.update_layout(height=320, showlegend=False, hovermode="closest", margin={"t": 24})
    return figure


def weight_histogram(histogram: Histogram) -> go.Figure:
    """Return how often weights have each value, and where the centroids of their codebooks lie."""
    width = (histogram.high - histogram.low) / len(histogram.counts)
    top = max(histogram.counts, default=1) or 1
    figure = go.Figure(
        go.Bar(
            x=[histogram.low + (place + 0.5) * width for place in range(len(histogram.counts))],
            y=list(histogram.counts),
            width=width,
            marker={"color": BLUE, "opacity": 0.55, "line": {"width": 0}},
            name="weights",
            hovertemplate="%{x:.4g}: %{y:,} weights<extra></extra>",
        )
    )
    if histogram.centroids:
        middle = [item[0] for item in histogram.centroids]
        figure.add_trace(
            go.Scatter(
                x=middle,
                y=[1.06 * top] * len(middle),
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [item[2] - item[0] for item in histogram.centroids],
                    "arrayminus": [item[0] - item[1] for item in histogram.centroids],
                    "color": ORANGE,
                    "thickness": 1.5,
                    "width": 3,
                },
                mode="markers",
                marker={"color": ORANGE, "symbol": "line-ns-open", "size": 14, "line": {"width": 2.5}},
                name="centroids",
                hovertemplate="centroid %{x:.4g}<extra></extra>",
            )
        )
    figure.update_xaxes(title={"text": "weight"})
    figure.update_yaxes(title={"text": "weights"}, rangemode="tozero")
    figure.update_layout(height=260, showlegend=False, bargap=0.0)
    return figure


def _log10(value: float) -> float:
    return math.log10(max(value, LEAST_LOSS))
