"""Loss against wall time, a line a backend, as a page that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go

from analyzer.errors import HotbenchError
from optimizers.placement.convergence import Convergence


def curves(found: Sequence[Convergence]) -> go.Figure:
    """Return the figure: each backend's loss against the seconds of its steps, and the loss that was to be reached."""
    figure = go.Figure()
    for item in found:
        name = f"{item.backend} ({item.transport})"
        figure.add_scatter(x=item.seconds, y=item.losses, mode="lines", name=name)
    for target in {item.target_loss for item in found}:
        figure.add_hline(y=target, line_dash="dot", annotation_text=f"loss {target:g}")
    workers = ", ".join(sorted({str(item.world_size) for item in found}))
    figure.update_layout(
        title=f"Translation model, {workers} workers on one machine: loss against wall time (measured)",
        xaxis_title="seconds of training steps",
        yaxis_title="mean loss of the last steps, nats a word",
        template="plotly_white",
        legend_orientation="h",
    )
    return figure


def draw_curves(found: Sequence[Convergence], path: Path) -> None:
    """Write the figure to an HTML file. Raises HotbenchError for nothing to draw or a file that cannot be written."""
    if not found:
        raise HotbenchError("no backend trained, so there is nothing to draw; install one that was left out")
    try:
        path.write_text(curves(found).to_html(include_plotlyjs=True))
    except OSError as error:
        raise HotbenchError(f"cannot write {path}: {error.strerror or error}; give another --output") from error
