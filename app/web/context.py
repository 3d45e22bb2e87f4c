"""What the server's parts share: made once by app.server, found again from any request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from flask import current_app

from app.store import Store

if TYPE_CHECKING:
    from app.jobs.queue import Jobs

_NAME = "hotbench"


@dataclass(frozen=True)
class ServerSettings:
    """How the server was started.

    store:     as given with --store; None is the user's own.
    workloads: folders whose .py files may be run; the page runs no other code.
    host:      another address than the loopback needs users.
    """

    store: str | None = None
    workloads: tuple[Path, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8050
    trusted_hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Context:
    """The server's shared values."""

    settings: ServerSettings
    store: Store
    jobs: Jobs


def install(context: Context, extensions: dict[str, object]) -> None:
    """Put the context where `context()` finds it: a Flask app's `extensions`."""
    extensions[_NAME] = context


def context() -> Context:
    """Return the context of the request's server."""
    return cast(Context, current_app.extensions[_NAME])
