"""A part of the check: named tasks that run one after the other in a process of their own."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.gpu.findings import Found


@dataclass(frozen=True, slots=True)
class Task:
    """One check of a part: an id, and the function that does it, or raises Skip, Refused or what went wrong."""

    id: str
    run: Callable[[], Found]


@dataclass(frozen=True, slots=True)
class Part:
    """One part.

    tasks:          "module:function", called in the part's process with `argument`; it returns the tasks in order
                    and needs no GPU to list them.
    limit_seconds:  the part's process group is killed after this.
    timed:          whether it times something: then nothing else runs meanwhile.
    """

    name: str
    title: str
    tasks: str
    limit_seconds: float
    timed: bool
    argument: str = ""


def list_tasks(entry: str, argument: str) -> tuple[Task, ...]:
    """Return the tasks that "module:function" lists. Raises ImportError where a package that it needs is absent."""
    module, _, function = entry.partition(":")
    listing: Callable[[str], Sequence[Task]] = getattr(importlib.import_module(module), function)
    return tuple(listing(argument))
