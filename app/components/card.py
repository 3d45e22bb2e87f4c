"""Cards: a titled section of a page."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import html


def card(*children: Any, **settings: Any) -> dmc.Paper:
    """Return a bordered surface around `children`."""
    return dmc.Paper(list(children), **{"p": "md", "withBorder": True, **settings})


def section(title: Any, *children: Any, text: Any = None, right: Any = None, id: str = "", order: int = 2) -> dmc.Paper:
    """Return a card with a heading, what it means in a sentence, and what stands at the heading's right."""
    heading = dmc.Title(title, order=order, className="hb-section-title")
    top = html.Div([heading, right], className="hb-top") if right is not None else heading
    about = [dmc.Text(text, size="sm", c="dimmed")] if text else []
    named = {"id": id} if id else {}
    return card(dmc.Stack([dmc.Stack([top, *about], gap=2), *children], gap="sm"), **named)


def page_heading(title: Any, subtitle: Any = None, right: Any = None) -> html.Div:
    """Return the page's one h1, a line under it, and its main acts at the right."""
    lines = [dmc.Title(title, order=1, className="hb-page-title")]
    if subtitle is not None:
        lines.append(dmc.Box(subtitle, className="hb-subtitle"))
    return html.Div([dmc.Stack(lines, gap=2), right], className="hb-heading")
