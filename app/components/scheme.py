"""Light or dark: what the browser shows now."""

from __future__ import annotations

from flask import has_request_context, request

COOKIE = "hotbench-scheme"
"""Written by assets/scheme.js, so that a figure comes in the right colours at once."""


def dark() -> bool:
    """Return whether the request's browser shows the dark scheme; False outside a request."""
    return has_request_context() and request.cookies.get(COOKIE) == "dark"
