"""A job and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["queued", "running", "done", "failed", "cancelled"]
LIVE: tuple[State, ...] = ("queued", "running")
EventKind = Literal["state", "progress", "log", "value"]
LOCAL = "local"
"""The place of a job that the server's own machine does."""


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work. Exactly one of result and error is given once it has ended.

    kind:      a name in app.jobs.work.KINDS: "profile", "optimize", "compare", "export" or "largest-batch".
    arguments: plain JSON, what the kind's function takes.
    needs:     where it can be done: {"place": "local"}, {"place": WORKER}, or
               {"workload": {"name", "source_hash"}} for any place that has that file.
    about:     the run or experiment that pages show it with.
    place:     "local" or a worker's id, once somebody does it.
    claim:     random; only who holds it may report.
    process:   {"pid", "started"} of a local job.
    heartbeat: epoch seconds of its last word, by the server's clock.
    """

    id: str
    kind: str
    title: str
    arguments: Mapping[str, Any]
    state: State
    user: str
    created: str
    needs: Mapping[str, Any] = field(default_factory=dict)
    about: str | None = None
    place: str | None = None
    claim: str | None = None
    process: Mapping[str, Any] | None = None
    started: str | None = None
    ended: str | None = None
    heartbeat: float | None = None
    cancel: bool = False
    stage: str = ""
    fraction: float = 0.0
    result: Mapping[str, Any] | None = None
    error: str = ""

    @property
    def live(self) -> bool:
        """Return whether it has not ended."""
        return self.state in LIVE


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One thing that happened to a job; ids rise over all jobs.

    kind: "state" (text: the state), "progress" (text: the stage), "log" (text: one line), or
          "value" (text: the id of a value that is about to be saved; it may never have been).
    """

    id: int
    job: str
    kind: str
    created: str
    fraction: float | None
    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """What a job tells of itself: where it is ("progress"), a "log" line, or a "value" that it is about to save."""

    kind: EventKind
    text: str
    fraction: float | None = None
