"""What a plan would change and what it would leave alone, target by target, before anything is applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import html

from app.components.badge import origin_badge
from app.components.grid import grid
from app.units import MISSING, plural, printable
from app.views.optimize import PlanView, TargetView

SCALES: Mapping[str, tuple[float, str]] = {"s": (1e-6, "µs"), "bytes": (2.0**20, "MiB"), "x": (1.0, "×")}
"""What an estimate is divided by to be in the unit of its column."""
_ROW, _HEAD = 38, 58
_MOST_HEIGHT = 325


def targets_panel(view: PlanView) -> list[Any]:
    """Return the grid of targets, those taken first; nothing where a plan names none."""
    if not view.taken and not view.left:
        return []
    taken, left = plural(len(view.taken), "target"), f"{len(view.left):,}"
    words = f"Would change {taken}" + (f", and leave {left} alone" if view.left else "")
    head = dmc.Group([html.Span(words, className="hb-small-title"), origin_badge(True)], gap="xs")
    return [html.Div([head, _grid(view)], className="hb-titled")]


def _grid(view: PlanView) -> Any:
    units = sorted({item.estimate.unit for item in view.taken if item.estimate is not None})
    rows = [row(item, position, units[:1]) for position, item in enumerate((*view.taken, *view.left))]
    return grid(
        {"part": "optimize-targets-grid", "optimizer": view.optimizer},
        columns(view, units[:1]),
        f"What {view.optimizer} would change, and what it would leave alone",
        rows=rows,
        options={"tooltipInteraction": True},
        height=f"{min(_MOST_HEIGHT, _HEAD + _ROW * len(rows))}px",
    )


def columns(view: PlanView, units: Sequence[str]) -> list[dict[str, Any]]:
    """Return the columns that this plan has something for."""
    everything = (*view.taken, *view.left)
    found: list[dict[str, Any]] = [_text("title", "Target", 240, flex=2), _text("outcome", "Outcome", 112)]
    if any(item.modules for item in everything):
        found.append(_text("modules", "Modules", 150, flex=1))
    found.append(_number("ops", "Ops", 80))
    if units:
        unit = SCALES.get(units[0], (1.0, units[0]))[1]
        found.append(_number("gain", f"Predicted gain, {unit}", 170))
    if any(item.compile_seconds is not None for item in everything):
        found.append(_number("compile", "To compile, s", 130))
    if any(item.refusal for item in everything):
        found.append(_text("why", "Why left alone", 280, flex=2))
    return found


def _text(field: str, heading: str, width: int, flex: int = 0) -> dict[str, Any]:
    size = {"flex": flex, "minWidth": width} if flex else {"width": width}
    return {"field": field, "headerName": heading, "tooltipField": field, "filter": "agTextColumnFilter", **size}


def _number(field: str, heading: str, width: int) -> dict[str, Any]:
    shown = {"function": "params.value == null ? '–' : d3.format(',.3~r')(params.value)"}
    return {"field": field, "headerName": heading, "width": width, "type": "rightAligned", "valueFormatter": shown}


def row(item: TargetView, position: int, units: Sequence[str]) -> dict[str, Any]:
    """Return one row: numbers in the unit of their heading, None where nothing is known."""
    gain = None
    if item.estimate is not None and item.estimate.unit in units:
        gain = item.estimate.mid / SCALES.get(item.estimate.unit, (1.0, ""))[0]
    return {
        "id": str(position),
        "title": printable(item.title),
        "outcome": "left alone" if item.refusal else "changed",
        "modules": ", ".join(item.modules) or MISSING,
        "ops": item.ops,
        "gain": gain,
        "compile": item.compile_seconds.mid if item.compile_seconds is not None else None,
        "why": item.refusal or MISSING,
    }
