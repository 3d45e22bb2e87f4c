"""`hotbench jobs`: what a server was asked to do, and the way to stop one of them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from analyzer.errors import HotbenchError
from app.commands.profile import _count
from app.terminal import Terminal

if TYPE_CHECKING:
    from rich.console import RenderableType

    from app.jobs.job import Job
    from app.jobs.queue import Jobs

NAME = "jobs"
HELP = "list the jobs of the store's server, or cancel one"
_MOST_LIVE = 1000
_FACTS = (
    "id", "kind", "title", "state", "user", "about", "place", "created", "started", "ended", "stage", "fraction",
    "cancel", "error", "result",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what to list and what to cancel."""
    parser.add_argument("--cancel", metavar="ID", help="cancel this job; a beginning of its id will do")
    parser.add_argument("--limit", type=_count, default=50, metavar="N", help="ended jobs to list (default: 50)")


def run(options: argparse.Namespace) -> int:
    """List the jobs, live ones first, or cancel one."""
    from app.jobs.queue import Jobs
    from app.store import open_store

    terminal = Terminal(options.json)
    with open_store(options.store) as store:
        jobs = Jobs(store.database)
        if options.cancel is not None:
            return _cancel(terminal, jobs, options.cancel)
        found = [*jobs.list(live=True, limit=_MOST_LIVE), *jobs.list(live=False, limit=options.limit)]
        names = _place_names(store)
    terminal.result({"jobs": [_plain(job) for job in found]}, _table(found, names))
    return 0


def _cancel(terminal: Terminal, jobs: Jobs, text: str) -> int:
    from app.author import command_line_author

    job = _named(jobs, text)
    if not job.live:
        raise HotbenchError(f"{job.id} has ended already: {job.state}; there is nothing to cancel")
    now = jobs.cancel(job.id, command_line_author())
    words = "is cancelled" if not now.live else "is asked to stop; whoever does it ends it within seconds"
    terminal.result(_plain(now), f"{now.id} {words}")
    return 0


def _named(jobs: Jobs, text: str) -> Job:
    """Return the job with that id, else the only live one whose id begins so. Raises HotbenchError."""
    live = [job for job in jobs.list(live=True, limit=_MOST_LIVE) if text and _begins(job.id, text)]
    if len(live) > 1:
        ids = ", ".join(job.id for job in live[:5])
        raise HotbenchError(f"{text!r} is the beginning of {len(live)} jobs: {ids}; write more of it")
    return live[0] if live else jobs.get(text)


def _begins(id: str, text: str) -> bool:
    return id.startswith(text) or id.removeprefix("job-").startswith(text)


def _place_names(store: Any) -> dict[str, str]:
    from app.store.workers import Workers

    return {worker.id: worker.name for worker in Workers(store.database).list()}


def _plain(job: Job) -> dict[str, Any]:
    return {**{name: getattr(job, name) for name in _FACTS}, "arguments": dict(job.arguments)}


def _table(jobs: list[Job], names: dict[str, str]) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from app.units import printable
    from app.views.jobs import place_words, stage_words

    if not jobs:
        return "no job yet: a job is what somebody asks for on the page that `hotbench serve` shows"
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("job", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("what", "how far", "where", "who"):
        table.add_column(name)
    for job in jobs:
        far = f"{100 * job.fraction:.0f} % {stage_words(job)}" if job.state == "running" else stage_words(job)
        words = (job.title, far or job.error, place_words(job, names), job.user)
        table.add_row(job.id, job.state, *(printable(word) for word in words))
    return table
