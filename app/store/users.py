"""The people who may log in: name, role and a hash of the password."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Literal, cast, get_args

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from werkzeug.security import check_password_hash, generate_password_hash

from app.store import tables
from app.store.database import Database
from app.store.errors import StoreError

Role = Literal["viewer", "editor", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each role may do what those before it may."""

SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 1024
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
# Without login everybody is "local": a user of that name could not be told from it.
_RESERVED = ("local",)


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in. session: random; logins that carry another one are over."""

    name: str
    role: Role
    created: str
    session: str


def users(database: Database) -> tuple[User, ...]:
    """Return everybody, by name."""
    with database.reading() as connection:
        rows = connection.execute(select(tables.users).order_by(tables.users.c.name)).mappings().all()
    return tuple(User(row["name"], cast(Role, row["role"]), row["created"], row["session"]) for row in rows)


def user(database: Database, name: str) -> User | None:
    """Return the user of exactly that name, None if there is none."""
    query = select(tables.users).where(tables.users.c.name == name)
    with database.reading() as connection:
        row = connection.execute(query).mappings().first()
    return None if row is None else User(row["name"], cast(Role, row["role"]), row["created"], row["session"])


def known_user(database: Database, name: str) -> User:
    """Return the user of exactly that name. Raises StoreError, naming those that exist."""
    found = user(database, name)
    if found is None:
        names = ", ".join(one.name for one in users(database)) or "nobody yet"
        raise StoreError(f"there is no user {name!r}; known: {names}")
    return found


def add_user(database: Database, name: str, password: str, role: str) -> User:
    """Save a new user and return it. Raises StoreError for a name, password or role that cannot be, or a name taken."""
    _check_name(name)
    values = {
        "name": name,
        "password_hash": _hashed(name, password),
        "role": _checked_role(role),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "session": secrets.token_hex(16),
    }
    try:
        with database.writing() as connection:
            connection.execute(insert(tables.users).values(values))
    except StoreError as error:
        if isinstance(error.__cause__, IntegrityError):
            raise StoreError(
                f"there is a user {name!r} already; change it with `hotbench users password {name}` "
                f"or `hotbench users role {name} --role ROLE`"
            ) from error
        raise
    return known_user(database, name)


def remove_user(database: Database, name: str) -> None:
    """Remove a user; their logins are over. Raises StoreError for an unknown name or the last admin."""
    known_user(database, name)
    with database.writing() as connection:
        connection.execute(delete(tables.users).where(tables.users.c.name == name))
        _check_admins(connection.execute(_ADMINS).scalar_one(), connection.execute(_ALL).scalar_one(), name)


def set_password(database: Database, name: str, password: str) -> User:
    """Give a user another password and return it; their logins are over."""
    known_user(database, name)
    return _change(database, name, password_hash=_hashed(name, password))


def set_role(database: Database, name: str, role: str) -> User:
    """Give a user another role and return it; their logins are over. Raises StoreError for the last admin."""
    known_user(database, name)
    return _change(database, name, role=_checked_role(role))


def check_password(database: Database, name: str, password: str) -> User | None:
    """Return the user if the password is theirs, else None; an unknown name takes as long as a known one."""
    query = select(tables.users.c.password_hash).where(tables.users.c.name == name)
    with database.reading() as connection:
        stored = connection.execute(query).scalar()
    if len(password) > LONGEST_PASSWORD:
        return None
    matches = check_password_hash(stored or _nobody(), password)
    return user(database, name) if stored and matches else None


_ALL = select(func.count()).select_from(tables.users)
_ADMINS = _ALL.where(tables.users.c.role == "admin")


def _change(database: Database, name: str, **values: str) -> User:
    with database.writing() as connection:
        connection.execute(
            update(tables.users).where(tables.users.c.name == name).values(**values, session=secrets.token_hex(16))
        )
        _check_admins(connection.execute(_ADMINS).scalar_one(), connection.execute(_ALL).scalar_one(), name)
    return known_user(database, name)


def _check_admins(admins: int, everybody: int, name: str) -> None:
    """Undo the transaction that would leave users without an admin."""
    if everybody and not admins:
        raise StoreError(f"{name} is the only admin; make another one first: `hotbench users add NAME --role admin`")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise StoreError(
            f"{name[:80]!r} cannot be a user's name; take 1 to 64 small letters, digits, dots, dashes or @"
            + (" (this one means everybody without a login)" if name in _RESERVED else "")
        )


def _checked_role(role: str) -> Role:
    if role not in ROLES:
        raise StoreError(f"{role!r} is no role; take one of {', '.join(ROLES)}")
    return role


def _hashed(name: str, password: str) -> str:
    if len(password) < SHORTEST_PASSWORD:
        raise StoreError(f"the password of {name} is too short; take at least {SHORTEST_PASSWORD} characters")
    if len(password) > LONGEST_PASSWORD:
        raise StoreError(f"the password of {name} is too long; take at most {LONGEST_PASSWORD} characters")
    if password.strip().lower() == name or len(set(password)) < 4:
        raise StoreError(f"the password of {name} is easy to guess; take another")
    return generate_password_hash(password)


@cache
def _nobody() -> str:
    return generate_password_hash(secrets.token_hex(16))
