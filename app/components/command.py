"""The command that does the same as a click."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import html

from app.components.attributes import attributes
from app.components.icons import icon


def command_line(text: str, label: str = "The same from the command line") -> html.Div:
    """Return `text` as code with a button that copies it (assets/copy.js listens for it)."""
    return html.Div(
        [
            html.Span(icon("terminal", 16), className="hb-command-sign", title=label),
            html.Code(text, className="hb-command-text", tabIndex=0, **attributes(aria_label=f"{label}: {text}")),
            copy_button(text, "Copy the command"),
        ],
        className="hb-command",
    )


def copy_button(text: str, label: str) -> dmc.Tooltip:
    """Return a button that copies `text`."""
    button = html.Button(
        icon("copy", 16), type="button", className="hb-copy", **attributes(data_copy=text, aria_label=label)
    )
    return dmc.Tooltip(button, label=label)
