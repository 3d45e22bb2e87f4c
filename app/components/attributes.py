"""Attributes of HTML that are no Python names."""

from __future__ import annotations

from typing import Any


def attributes(**names: object) -> dict[str, Any]:
    """Return {"aria-label": …} for aria_label=…: to be unpacked into a component's arguments."""
    return {name.replace("_", "-"): value for name, value in names.items()}
