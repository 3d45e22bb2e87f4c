"""Who asks, and what they may do. A viewer reads everything and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from flask_login import current_user

from analyzer.errors import HotbenchError
from app.store.users import ROLES, Role
from app.web.context import context


class Forbidden(HotbenchError):  # noqa: N818 - the name of the answer that it becomes
    """An act that this person's role does not allow."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whoever sent the request. Without login that is "local", who may do everything."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Return whether this person's role includes `role`."""
        return ROLES.index(self.role) >= ROLES.index(role)


LOCAL = Person("local", "admin")


def person() -> Person:
    """Return who sent this request. Raises Forbidden where login is on and nobody is logged in."""
    if not context().login:
        return LOCAL
    if not current_user.is_authenticated:
        raise Forbidden("nobody is logged in: open /login and try again")
    found: Person = current_user.person
    return found


def require(role: Role) -> Person:
    """Return who sent this request if they may act as `role`; the first line of everything that changes something.

    Raises Forbidden, in words, if they may not.
    """
    who = person()
    if not who.may(role):
        raise Forbidden(
            f"{who.name} is {_article(who.role)} and this needs {_article(role)}; ask an admin of this server"
        )
    return who


def _article(role: Role) -> str:
    return f"a {role}" if role == "viewer" else f"an {role}"
