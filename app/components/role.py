"""What stands beside acts that this person's role does not allow: why they are disabled, and who can change that."""

from __future__ import annotations

from typing import Any

from dash import html

from app.components.icons import icon
from app.store.users import Role
from app.web import access


def allowed(role: Role = "editor") -> bool:
    """Return whether this person may do what needs `role`; the callback asks again, with `access.require`."""
    return access.person().may(role)


def needs_role(acts: str, role: Role = "editor") -> list[Any]:
    """Return a line that says why the acts beside it are disabled, such as "capturing"; nothing where they are not."""
    if allowed(role):
        return []
    words = f"{acts[:1].upper()}{acts[1:]} needs the role {role}; an admin of this server can give it to you."
    return [html.Div([icon("info", 16), html.Span(words)], className="hb-why-not hb-subtitle")]
