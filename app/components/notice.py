"""Short words at the window's corner that something was done."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc


def notice(title: str, text: str, colour: str = "teal") -> list[dict[str, Any]]:
    """Return what Output("notify", "sendNotifications") takes."""
    return [{"action": "show", "title": title, "message": dmc.Text(text, size="sm"), "color": colour}]
