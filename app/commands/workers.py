"""`hotbench workers`: which machines may do this store's jobs."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from analyzer.errors import HotbenchError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from app.store.workers import Worker

NAME = "workers"
HELP = "which machines may do jobs: add, list, revoke"
_ACTIONS = ("add", "list", "revoke")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what to do, and with whom."""
    parser.add_argument("action", choices=_ACTIONS, help="what to do")
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the worker; not for list")


def run(options: argparse.Namespace) -> int:
    """Do it; print the workers, or the one that changed. A token is printed this once."""
    from app.author import command_line_author
    from app.jobs.queue import Jobs
    from app.revocation import revoke_worker
    from app.store import open_store
    from app.store.workers import Workers
    from app.terminal import Terminal

    if options.action == "list" and options.name:
        raise HotbenchError(f"list takes no name, got {options.name!r}")
    if options.action != "list" and not options.name:
        raise HotbenchError(f"which one? write `hotbench workers {options.action} NAME`")
    terminal = Terminal(options.json)
    with open_store(options.store) as store:
        workers = Workers(store.database)
        if options.action == "list":
            everybody = workers.list()
            terminal.result({"workers": [_plain(one) for one in everybody]}, *(_lines(everybody)))
        elif options.action == "add":
            worker, token = workers.add(options.name, command_line_author())
            terminal.result({**_plain(worker), "token": token}, *_added(worker, token))
        else:
            worker = revoke_worker(store, Jobs(store.database), options.name)
            terminal.result(_plain(worker), f"{options.name} is revoked: it gets no job and no answer any more")
    return 0


def _added(worker: Worker, token: str) -> tuple[RenderableType, ...]:
    from rich.text import Text

    from app.views.workers import worker_command

    return (
        f"{worker.name} may do jobs. Its token is shown this once:",
        "",
        f"  {token}",
        "",
        "On its machine, with URL the server's address and DIR the folder of its workload files:",
        "",
        # A Text is never cut into lines.
        Text(f"  {worker_command(token)}"),
    )


def _lines(everybody: tuple[Worker, ...]) -> list[str]:
    if not everybody:
        return ["no worker yet: `hotbench workers add NAME` lets one in"]
    return [f"{one.name:<24} {_state(one):<28} {one.about.get('device', {}).get('name', '')}" for one in everybody]


def _state(one: Worker) -> str:
    if one.revoked is not None:
        return f"revoked {one.revoked[:10]}"
    if one.seen is None:
        return "never seen"
    return "here" if one.alive() else f"last seen {time.time() - one.seen:,.0f} s ago"


def _plain(one: Worker) -> dict[str, Any]:
    names = ("id", "name", "created", "created_by", "revoked", "seen")
    return {**{name: getattr(one, name) for name in names}, "about": dict(one.about), "alive": one.alive()}
