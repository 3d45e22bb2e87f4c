"""One key figure: label with help, value, what it is, and a line that puts it in relation."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import html

from app.components.card import card
from app.components.icons import icon as draw

TONES = {"good": "teal", "bad": "red", "warn": "orange", "predicted": "violet", "": "gray"}


def kpi(label: Any, value: str, sub: Any = "", *, tone: str = "", icon: str = "", tag: Any = None) -> dmc.Paper:
    """Return a card. tone: "good", "bad", "warn", "predicted" or ""; it colours the sub line, whose words say it too.

    label may be app.components.term.term("step"); tag is a badge, such as badge.origin_badge(False). Without one the
    value is words, such as "not measured".
    """
    colour = TONES[tone]
    text = "dimmed" if colour == "gray" else f"var(--mantine-color-{colour}-light-color)"
    top = html.Div(
        [html.Div(label, className="hb-kpi-label"), *_drawing(icon, colour)],
        className="hb-top",
    )
    figure = html.Div([html.Span(value), tag], className="hb-kpi-value" if tag else "hb-kpi-value hb-kpi-none")
    return card(dmc.Stack([top, figure, dmc.Box(sub, className="hb-kpi-sub", c=text)], gap=4), className="hb-kpi")


def _drawing(icon: str, colour: str) -> list[Any]:
    return [dmc.ThemeIcon(draw(icon, 19), variant="light", color=colour, size=34)] if icon else []


def kpi_row(*cards: Any, columns: int = 4) -> dmc.SimpleGrid:
    """Return cards of one height side by side, fewer in a row where the window is narrow."""
    return dmc.SimpleGrid(list(cards), cols={"base": 1, "xs": 2, "lg": columns}, spacing="md")
