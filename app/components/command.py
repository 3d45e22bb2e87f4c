"""The command that does the same as a click."""

from __future__ import annotations

import shlex
from pathlib import Path

import dash_mantine_components as dmc
from dash import html
from flask import has_app_context

from app.components.attributes import attributes
from app.components.icons import icon
from app.web import access
from app.web.context import context

SAME = "The same from the command line"


def command_line(text: str, label: str = SAME, here: bool = True) -> html.Div:
    """Return `text` as code with a button that copies it (assets/copy.js listens for it).

    It names the store where this server was started with one: it would read another one otherwise. `here` False:
    it is for another machine, or about no store.
    """
    text += store_words() if here else ""
    return html.Div(
        [
            html.Span(icon("terminal", 16), className="hb-command-sign", title=label),
            html.Code(text, className="hb-command-text", tabIndex=0, **attributes(aria_label=f"{label}: {text}")),
            copy_button(text, "Copy the command"),
        ],
        className="hb-command",
    )


def commands(*texts: str) -> html.Details:
    """Return the commands that do the same as a group of buttons, closed until somebody opens them."""
    return html.Details(
        [html.Summary(SAME), html.Div([command_line(text) for text in texts], className="hb-commands")],
        className="hb-more",
    )


def store_words() -> str:
    """Return ` --store FOLDER` as this server was started with it; only to those who run the server."""
    if not has_app_context() or not access.person().may("admin"):
        return ""
    place = context().settings.store
    # A URL may hold a password.
    if not place or "://" in place:
        return ""
    return f" --store {shlex.quote(str(Path(place).expanduser().absolute()))}"


def copy_button(text: str, label: str) -> dmc.Tooltip:
    """Return a button that copies `text`."""
    button = html.Button(
        icon("copy", 16), type="button", className="hb-copy", **attributes(data_copy=text, aria_label=label)
    )
    return dmc.Tooltip(button, label=label)
