"""What an experiment found: the word, why, the figures, and the prediction beside the measurement."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import html

from app.components.badge import badge, origin_badge, verdict_badge
from app.components.empty import note
from app.components.facts import facts
from app.components.figure import figure
from app.components.icons import icon
from app.components.term import term
from app.figures import experiment as figures
from app.units import ratio
from app.views.experiments import ProofView

_COLOURS = {"good": "teal", "bad": "red", "warn": "gray"}
_WORDS = {"good": "teal", "bad": "red", "warn": "orange"}
_ICONS = {"good": "check", "bad": "warning", "warn": "info"}
_TERMS = {"Speedup": "speedup", "Peak memory": "peak memory", "Step time": "step"}


def verdict_line(view: ProofView) -> dmc.Alert:
    """Return the verdict, what it means for a step, and the reason in words."""
    colour = _COLOURS.get(view.tone, "gray")
    head = dmc.Group([verdict_badge(view.verdict), html.Strong(view.headline, className="hb-headline")], gap="xs")
    words = html.Div(view.reason, className="hb-break hb-reason")
    below = dmc.Group([*_verdicts(view), term("verdict", "how a verdict is made")], gap="xs")
    return dmc.Alert(
        dmc.Stack([head, words, below], gap=6),
        color=colour,
        variant="light",
        icon=icon(_ICONS.get(view.tone, "info"), 20),
        className="hb-verdict",
    )


def _verdicts(view: ProofView) -> list[Any]:
    return [badge(f"{name}: {word}", _WORDS.get(tone, "gray")) for name, word, tone in view.verdicts]


def verdict_panel(view: ProofView, order: int = 3) -> dmc.Stack:
    """Return the whole of it; `order` is the level of the headings inside."""
    parts: list[Any] = [verdict_line(view)]
    if view.measured:
        parts += [measured_facts(view), _figures(view, order)]
    if view.explanation:
        parts.append(_explanation(view, order))
    if view.notes:
        parts.append(note(dmc.List([dmc.ListItem(text) for text in view.notes], size="sm"), "While measuring"))
    return dmc.Stack(parts, gap="md")


def measured_facts(view: ProofView) -> dmc.Stack:
    """Return the figures that were measured, under one badge that says so."""
    rows = [
        (term(_TERMS[label], label) if label in _TERMS else label, value, detail) for label, value, detail in view.facts
    ]
    return dmc.Stack([dmc.Group([origin_badge(False)]), facts(rows)], gap="xs")


def _figures(view: ProofView, order: int) -> dmc.SimpleGrid:
    speedup = figures.speedup(view.speedup, view.noise_floor, view.predicted, view.verdict)
    times = figures.distributions(view.before_seconds, view.after_seconds, view.again_seconds)
    predicted = f", predicted {ratio(view.predicted.mid)}" if view.predicted is not None else ""
    words = f"Measured {ratio(view.speedup.median)}{predicted}; noise floor {_floor(view)}"
    rounds = f"Step times of {len(view.before_seconds)} rounds: before, after, and before again"
    return dmc.SimpleGrid(
        [
            _titled("Speedup, measured and predicted", figure(speedup, _id(view, "speedup"), words), order),
            _titled("Step times, before and after", figure(times, _id(view, "times"), rounds), order),
        ],
        cols={"base": 1, "md": 2},
        spacing="lg",
    )


def _floor(view: ProofView) -> str:
    return f"{ratio(view.noise_floor.low)} to {ratio(view.noise_floor.high)}"


def _titled(title: str, content: Any, order: int) -> html.Div:
    return html.Div([dmc.Title(title, order=order, className="hb-small-title"), content], className="hb-titled")


def _explanation(view: ProofView, order: int) -> html.Div:
    lines = dmc.List([dmc.ListItem(text) for text in view.explanation], size="sm", className="hb-break")
    title = dmc.Group(
        [dmc.Title("The prediction beside the measurement", order=order, className="hb-small-title"), *_origins()],
        gap="xs",
    )
    return html.Div([title, lines], className="hb-explanation")


def _origins() -> list[Any]:
    return [origin_badge(True), origin_badge(False)]


def _id(view: ProofView, name: str) -> dict[str, str]:
    return {"part": "experiment-figure", "experiment": view.id, "figure": name}
