"""What the server's parts share: made once by app.server, found again from any request."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from flask import Flask, current_app

from app.store import Store

if TYPE_CHECKING:
    from app.jobs.queue import Jobs

_NAME = "hotbench"


@dataclass(frozen=True)
class ServerSettings:
    """How the server was started.

    store:         as given with --store; None is the user's own.
    workloads:     folders whose .py files may be run; the page runs no other code.
    host:          another address than the loopback needs users.
    port:          0 takes any free one.
    trusted_hosts: names under which a proxy in front of the server is reached; they need users too.
    login:         ask for a name and a password on the loopback as well.
    """

    store: str | None = None
    workloads: tuple[Path, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8050
    trusted_hosts: tuple[str, ...] = ()
    login: bool = False


@dataclass(frozen=True)
class Context:
    """The server's shared values.

    login:    whether people must log in; else everybody who reaches the page is the person "local".
    stopping: set when the server ends: long answers, such as event streams, end with it.
    """

    settings: ServerSettings
    store: Store
    jobs: Jobs
    login: bool = False
    stopping: threading.Event = field(default_factory=threading.Event)


def install(context: Context, extensions: dict[str, object]) -> None:
    """Put the context where `context()` finds it: a Flask app's `extensions`."""
    extensions[_NAME] = context


def context() -> Context:
    """Return the context of the request's server."""
    return context_of(current_app)


def context_of(app: Flask) -> Context:
    """Return the context that was installed in `app`."""
    return cast(Context, app.extensions[_NAME])
