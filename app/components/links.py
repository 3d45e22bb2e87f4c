"""Addresses of pages, and links to them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import dash_mantine_components as dmc

from app.components.icons import icon as draw


def href(path: str, **query: object) -> str:
    """Return "/operators?run=run-1a2b&op=17"; what is None or "" is left out."""
    given = {name: str(value) for name, value in query.items() if value is not None and value != ""}
    return f"{path}?{urlencode(given)}" if given else path


def link(text: Any, path: str, **query: object) -> dmc.Anchor:
    """Return a link within the page: no reload. It is underlined: in a sentence colour alone would not tell it."""
    return dmc.Anchor(text, href=href(path, **query), inherit=True, underline="always")


def link_button(text: str, path: str, *, icon: str = "", primary: bool = False, **query: object) -> dmc.Anchor:
    """Return a link that looks like a button. A page has one primary one."""
    children = [draw(icon, 16), text] if icon else [text]
    kind = "hb-button hb-button-primary" if primary else "hb-button"
    return dmc.Anchor(children, href=href(path, **query), className=kind, underline="never")


def download_button(text: str, path: str, **query: object) -> dmc.Anchor:
    """Return a link that looks like a button and leaves the page to the browser: a file, not a page."""
    return dmc.Anchor(
        [draw("download", 16), text],
        href=href(path, **query),
        className="hb-button",
        underline="never",
        refresh=True,
        target="_blank",
    )
