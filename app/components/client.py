"""Callbacks that run in the browser."""

from __future__ import annotations

from typing import Any, cast

from dash import ClientsideFunction, Dash


def client(app: Dash, name: str, *parts: Any, **settings: Any) -> None:
    """Declare on `app` the callback `name` of window.dash_clientside.hotbench, which a script in assets/ defines.

    parts: Output, Input and State, in the order of `app.callback`; without an Output it only acts.
    """
    cast(Any, app).clientside_callback(ClientsideFunction("hotbench", name), *parts, **settings)
