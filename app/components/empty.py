"""What stands where there is nothing to show, or where something went wrong: what to do, in words."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc

from app.components.card import card
from app.components.icons import icon as draw


def empty(title: str, text: Any, *acts: Any, icon: str = "info", order: int = 2) -> dmc.Paper:
    """Return an empty state: what is missing, what to do, and the acts that do it."""
    return card(
        dmc.Stack(
            [
                dmc.ThemeIcon(draw(icon, 26), size=52, radius="xl", variant="light", color="gray"),
                dmc.Title(title, order=order, className="hb-section-title", ta="center"),
                dmc.Box(text, className="hb-subtitle", ta="center", maw=620),
                *acts,
            ],
            align="center",
            gap="sm",
        ),
        p="xl",
    )


def problem(text: str, *acts: Any, title: str = "This did not work") -> dmc.Alert:
    """Return a refusal or an error in words, announced to screen readers."""
    return dmc.Alert(
        [dmc.Box(text, className="hb-break"), *acts],
        title=title,
        color="red",
        variant="light",
        icon=draw("warning", 18),
    )


def note(text: Any, title: Any = None, colour: str = "gray", icon: str = "info") -> dmc.Alert:
    """Return a remark that is no error."""
    return dmc.Alert(text, title=title, color=colour, variant="light", icon=draw(icon, 18))
