"""`hotbench users`: who may log in to the page."""

from __future__ import annotations

import argparse
import getpass
import sys
from typing import TYPE_CHECKING

from analyzer.errors import HotbenchError

if TYPE_CHECKING:
    from app.store import Store
    from app.store.users import User
    from app.terminal import Terminal

NAME = "users"
HELP = "who may log in to the page: add, remove, list, password, role"
_ACTIONS = ("add", "remove", "list", "password", "role")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what to do, and to whom."""
    parser.add_argument("action", choices=_ACTIONS, help="what to do")
    parser.add_argument("name", nargs="?", metavar="NAME", help="whom; not for list")
    parser.add_argument(
        "--role",
        choices=("viewer", "editor", "admin"),
        help="viewer reads, editor also runs jobs and reviews, admin also manages workers (add: default viewer)",
    )
    parser.add_argument("--password-stdin", action="store_true", help="read the password from stdin, one line")


def run(options: argparse.Namespace) -> int:
    """Do it; print everybody, or the one that changed."""
    from app.store import open_store
    from app.store.users import users
    from app.terminal import Terminal

    terminal = Terminal(options.json)
    _check(options)
    with open_store(options.store) as store:
        if options.action == "list":
            return _show(terminal, store, users(store.database))
        done = _DO[options.action](store, options)
        terminal.result(done, done["done"])
    return 0


def _check(options: argparse.Namespace) -> None:
    if options.action == "list":
        if options.name:
            raise HotbenchError(f"list takes no name, got {options.name!r}")
    elif not options.name:
        raise HotbenchError(f"whom? write `hotbench users {options.action} NAME`")
    if options.action == "role" and options.role is None:
        raise HotbenchError(f"which role? write `hotbench users role {options.name} --role viewer|editor|admin`")
    if options.role is not None and options.action not in ("add", "role"):
        raise HotbenchError(f"--role goes with add and role, not with {options.action}")


def _add(store: Store, options: argparse.Namespace) -> dict[str, str]:
    from app.store.users import add_user

    role = options.role or "viewer"
    added = add_user(store.database, options.name, _password(options), role)
    return {**_plain(added), "done": f"{added.name} may log in as {role}"}


def _remove(store: Store, options: argparse.Namespace) -> dict[str, str]:
    from app.store.users import remove_user

    remove_user(store.database, options.name)
    return {"name": options.name, "done": f"{options.name} is removed and logged out"}


def _set_password(store: Store, options: argparse.Namespace) -> dict[str, str]:
    from app.store.users import known_user, set_password

    known_user(store.database, options.name)
    changed = set_password(store.database, options.name, _password(options))
    return {**_plain(changed), "done": f"{changed.name} has a new password and is logged out everywhere"}


def _set_role(store: Store, options: argparse.Namespace) -> dict[str, str]:
    from app.store.users import set_role

    changed = set_role(store.database, options.name, options.role)
    return {**_plain(changed), "done": f"{changed.name} is {changed.role} now and must log in again"}


_DO = {"add": _add, "remove": _remove, "password": _set_password, "role": _set_role}


def _show(terminal: Terminal, store: Store, everybody: tuple[User, ...]) -> int:
    lines = [f"{one.name:24} {one.role:8} since {one.created[:10]}" for one in everybody]
    nobody = "nobody yet: `hotbench users add NAME --role admin` adds the first; the loopback needs no login until then"
    terminal.result({"users": [_plain(one) for one in everybody]}, *(lines or [nobody]))
    return 0


def _plain(one: User) -> dict[str, str]:
    return {"name": one.name, "role": one.role, "created": one.created}


def _password(options: argparse.Namespace) -> str:
    """Return the password, asked for twice on a terminal; it is never an argument, which others could read."""
    if options.password_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise HotbenchError("there is no terminal to type the password on; give it with --password-stdin")
    password = getpass.getpass(f"Password of {options.name}: ")
    if getpass.getpass("The same again: ") != password:
        raise HotbenchError("the two passwords differ; nothing was changed")
    return password
