"""A memory budget on the page: an experiment's step before, predicted and measured, and another budget, simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import html

from app.components.badge import badge, origin_badge
from app.components.card import section
from app.components.empty import note
from app.components.facts import facts
from app.components.figure import figure
from app.components.grid import grid
from app.components.largest_batch import ROOM as LARGEST
from app.components.options_form import option_id
from app.figures.swap import key_of, memory_over_step, time_over_budget
from app.units import MISSING, mebibytes, milliseconds, percent, plural
from app.views.swap import NAME, Simulated, SwapProof, WhatIf

ROOM, SLIDER, CURVE, SHOWN = "swap-what-if", "swap-budget", "swap-curve", "swap-simulated"
BUDGET = option_id(NAME, "budget")
ALLOW, FOLDER = option_id(NAME, "allow"), option_id(NAME, "folder")
_HEAD, _ROW, _MOST_HEIGHT = 58, 38, 325
_AREAS = "Areas hold however slow the copies are; the lines fall below them where a copy ends sooner."
_MOST_MOVES = 5000
"""So many moves, the largest first, are sent to the page."""


def swap_section(proof: SwapProof) -> dmc.Paper:
    """Return the card of an experiment whose candidate keeps a memory budget."""
    view = proof.view
    drawn = memory_over_step(view.before, view.predicted, view.measured_bytes, view.budget_bytes, view.lanes)
    highest = max(view.before.total_bytes, default=0)
    words = f"Highest {mebibytes(highest)} before; budget {mebibytes(view.budget_bytes)}."
    label = "Memory over the step, before and within the budget"
    parts = [_key(key_of(drawn)), figure(drawn, "swap-memory", label, text=words)]
    if not view.measured_bytes:
        parts.append(note("No course of memory was measured: the step's marks differ from the planned ones."))
    about = (
        "Above: live bytes by category with nothing moved, traced. Below: within the budget, as simulated, and the "
        "measured highest of each stretch, drawn at the simulated times. At the bottom: copies to the disk and back, "
        f"simulated. Other is what stays, such as parameters. {_AREAS}"
    )
    return section(
        "Memory of the step",
        facts(_measured(proof)),
        *parts,
        html.Div([html.Span(_moved(proof), className="hb-small-title"), _moves(proof)], className="hb-titled"),
        text=about,
        right=dmc.Group([origin_badge(False), origin_badge(True)], gap=6),
        id="section-swap",
    )


def _key(names: Sequence[tuple[str, str, str]]) -> dmc.Group:
    """Return what each colour of a figure means."""
    items = [html.Span([html.Span(style=_sign(*item[1:])), item[0]], style=_SIGNED) for item in names]
    return dmc.Group(items, gap="sm", className="hb-subtitle")


_SIGNED = {"display": "inline-flex", "alignItems": "center", "gap": "6px", "fontSize": "13px"}


def _sign(colour: str, kind: str) -> dict[str, str]:
    if kind == "area":
        return {"width": "14px", "height": "10px", "borderRadius": "2px", "background": colour}
    return {"width": "18px", "borderTop": f"2px {'dotted' if kind == 'dots' else 'solid'} {colour}"}


def _measured(proof: SwapProof) -> list[tuple[Any, Any, Any]]:
    known = proof.decisions
    peaks = {name: _number(known.get(f"peak_bytes_{name}")) for name in ("before", "predicted", "measured")}
    measured = peaks["measured"]
    rows: list[tuple[Any, Any, Any]] = [
        ("Budget", mebibytes(proof.view.budget_bytes), "highest live bytes of a step"),
        ("Peak before, measured", mebibytes(peaks["before"]), "nothing moved"),
        ("Peak, measured", mebibytes(measured), f"predicted {mebibytes(peaks['predicted'])}"),
    ]
    before, after = _seconds(known, "step_seconds_before", "median"), _seconds(known, "step_seconds_after", "median")
    predicted = _seconds(known, "step_seconds_predicted", "mid")
    rows.append(("Step, measured while fitting", milliseconds(after), f"predicted {milliseconds(predicted)}"))
    rows.append(("Step before, measured while fitting", milliseconds(before), "the verdict above measured it again"))
    return rows


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _seconds(known: Mapping[str, Any], name: str, field: str) -> float | None:
    value = known.get(name)
    return _number(value.get(field)) if isinstance(value, Mapping) else None


def _moved(proof: SwapProof) -> str:
    moves = proof.view.moves
    total = mebibytes(sum(move.bytes for move in moves))
    again = sum(move.how == "recompute" for move in moves)
    words = f"{plural(len(moves), 'move')}, {total}: {len(moves) - again:,} to disk and back, {again:,} made again"
    return words + (f"; the {_MOST_MOVES:,} largest are listed" if len(moves) > _MOST_MOVES else "")


def _moves(proof: SwapProof) -> Any:
    rows = move_rows(proof)
    return grid(
        "swap-moves",
        [
            _column("buffer", "Tensor", 90),
            {"field": "category", "headerName": "Category", "minWidth": 130, "flex": 1},
            {"field": "how", "headerName": "How", "minWidth": 130, "flex": 1},
            _column("size", "Size, MiB", 110),
            _column("gap", "Idle, ms", 110),
            _column("leaves", "Leaves at, ms", 130),
            _column("returns", "Back at, ms", 120),
        ],
        "Tensors that leave memory, the largest first, with the gap in which they lie idle",
        rows=rows,
        height=f"{min(_MOST_HEIGHT, _HEAD + _ROW * max(len(rows), 1))}px",
    )


def _column(field: str, heading: str, width: int) -> dict[str, Any]:
    shown = {"function": "params.value == null ? '–' : d3.format(',.3~r')(params.value)"}
    return {"field": field, "headerName": heading, "width": width, "type": "rightAligned", "valueFormatter": shown}


def move_rows(proof: SwapProof) -> list[dict[str, Any]]:
    """Return a row for each move, the largest first, in the units of their headings."""
    largest = sorted(proof.view.moves, key=lambda move: -move.bytes)[:_MOST_MOVES]
    return [
        {
            "id": str(position),
            "buffer": move.buffer,
            "category": move.category.replace("_", " "),
            "how": "made again" if move.how == "recompute" else move.how,
            "size": move.bytes / 2**20,
            "gap": move.gap_seconds * 1e3,
            "leaves": move.leaves_seconds * 1e3,
            "returns": move.returns_seconds * 1e3,
        }
        for position, move in enumerate(largest)
    ]


def what_if_room() -> dmc.Stack:
    """Return the places in an optimizer's card where a budget can be tried; callbacks fill them."""
    return dmc.Stack([html.Div(id=ROOM, className="hb-live"), html.Div(id=LARGEST, className="hb-live")], gap="md")


def what_if_panel(step: WhatIf, percent_chosen: int) -> list[Any]:
    """Return the slider over budgets, the place for what the chosen one gives, and the curve."""
    least = step.least_percent
    head = dmc.Group([dmc.Title("Try a budget", order=3, className="hb-section-title"), _simulated()], gap="xs")
    about = (
        "Planned anew from the captured run whenever the slider is let go; nothing runs before Apply, which traces the "
        "step afresh (it can need more memory than a run shows) and measures. Copies are taken to be as quick as this "
        f"server's swap folder was when the run was opened. {_AREAS}"
    )
    slider = dmc.Slider(
        id=SLIDER,
        min=least,
        max=100,
        step=1,
        value=min(max(percent_chosen, least), 100),
        updatemode="mouseup",
        marks=[{"value": least, "label": f"{least} %"}, {"value": 100, "label": "100 %"}] if least < 100 else [],
        thumbLabel="Memory budget, percent of the step's own peak",
        disabled=least >= 100,
        mb="lg",
        mx="xs",
    )
    curve = figure(
        time_over_budget(step.curve, step.peak_bytes, None),
        CURVE,
        "Simulated step time over the memory budget",
        text=f"{plural(len(step.curve), 'budget')} simulated, up to {mebibytes(step.peak_bytes)}.",
    )
    return [dmc.Stack([head, dmc.Text(about, size="sm", c="dimmed"), slider, html.Div(id=SHOWN), curve])]


def simulated_panel(step: WhatIf, found: Simulated | str) -> list[Any]:
    """Return what one budget gives, simulated, or why it cannot be kept."""
    if isinstance(found, str):
        return [note(found, "This budget cannot be simulated")]
    result, alone = found.plan.simulation, step.timeline.seconds
    slower = percent(result.step_seconds / alone - 1) if alone else MISSING
    moved, made = plural(len(found.plan.swapped), "move"), plural(len(found.plan.recomputed), "tensor")
    share = percent(found.budget_bytes / max(step.peak_bytes, 1))
    rows = [
        ("Budget", mebibytes(found.budget_bytes), f"{share} of the step's own peak"),
        ("Peak, simulated", mebibytes(result.peak_bytes), f"{mebibytes(step.peak_bytes)} with nothing moved"),
        ("Step, simulated", milliseconds(result.step_seconds), f"{slower} more than {milliseconds(alone)}"),
        ("Waiting for copies, simulated", milliseconds(result.waiting_seconds), f"{moved} to disk and back"),
        ("Making again, simulated", milliseconds(result.recompute_seconds), made),
    ]
    drawn = memory_over_step(found.before, found.after, (), found.budget_bytes, found.lanes)
    words = f"Highest {mebibytes(step.peak_bytes)} before, {mebibytes(result.peak_bytes)} within the budget, simulated."
    label = "Memory over the step, before and within the budget, simulated"
    shown = figure(drawn, "swap-memory-simulated", label, text=words)
    return [dmc.Stack([facts(rows), _key(key_of(drawn)), shown], gap="sm")]


def _simulated() -> dmc.Badge:
    return badge("simulated", "violet")
