"""Runs of kernel calls as one: a table on one thread, and side by side on several where that is measured faster."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kernels.compiler.call_table import CallTable, TableCall, native_address, serial_table, team_table
from kernels.compiler.loaded import FUNCTION
from optimizers.fusion.coschedule import Task, dealt, verify_schedule

_TRIALS = 4
"""Calls of each way before one is chosen; the first of each is not counted."""
_MOST_CALLS = 1500
"""Above it a schedule is not looked for: finding what waits for what takes the square of it."""

Calls = Sequence[tuple[str, tuple[int, ...]]]
Facts = Mapping[str, tuple[float, Sequence[tuple[int, bool]]]]
"""For each kernel, its estimated seconds, and bytes and whether it is written of each buffer."""


class Joiner:
    """Makes one function of a run of kernel calls: `join(calls, facts)`.

    kernels: compiled kernels by name; single: each as it is called by itself, on as many threads as it can use.
    """

    def __init__(self, kernels: Mapping[str, Any], single: Mapping[str, Callable[..., None]], threads: int) -> None:
        self._kernels, self._single, self._threads = kernels, single, threads

    def __call__(self, calls: Calls, facts: Facts) -> Callable[[], None]:
        """Return what makes the calls in the fastest way that is known, or learns it in its first calls."""
        ways: list[Callable[[], None]] = []
        natives = self._natives(calls)
        if natives is not None:
            serial = serial_table([TableCall(f, a) for f, (_, a) in zip(natives, calls, strict=True)], (self._kernels,))
            if isinstance(serial, CallTable):
                ways.append(serial)
                if self._threads > 1 and len(calls) <= _MOST_CALLS:
                    ways += self._team(calls, facts, natives, serial)
        if not ways or self._threads > 1:
            ways.append(self._one_by_one(calls))
        return ways[0] if len(ways) == 1 else Fastest(ways)

    def _natives(self, calls: Calls) -> list[int] | None:
        """Return the address of each call's machine code; None where a kernel has none."""
        found: dict[str, int] = {}
        for name, _ in calls:
            module = getattr(self._kernels[name], "_module", None)
            function = getattr(module, FUNCTION, None)
            if not hasattr(function, "overloads"):
                return None
            if name not in found:
                found[name] = native_address(function)
        return [found[name] for name, _ in calls]

    def _team(self, calls: Calls, facts: Facts, natives: Sequence[int], serial: CallTable) -> list[Callable[[], None]]:
        tasks = []
        for name, addresses in calls:
            seconds, buffers = facts[name]
            spans = tuple((a, a + nbytes, writes) for a, (nbytes, writes) in zip(addresses, buffers, strict=True))
            tasks.append(Task(spans, seconds))
        lists = dealt(tasks, self._threads)
        if sum(bool(turns) for turns in lists) < 2:
            return []
        verify_schedule(tasks, lists)
        table = team_table(
            [[TableCall(natives[t.task], calls[t.task][1], t.waits) for t in turns] for turns in lists],
            serial,
            (self._kernels,),
        )
        return [table] if isinstance(table, CallTable) else []

    def _one_by_one(self, calls: Calls) -> Callable[[], None]:
        pairs = [(self._single[name], addresses) for name, addresses in calls]

        def run() -> None:
            for call, addresses in pairs:
                call(*addresses)

        return run


class Fastest:
    """Several ways to do the same; the first calls take turns and are timed, the fastest serves from then on."""

    def __init__(self, ways: Sequence[Callable[[], None]], clock: Callable[[], float] = time.perf_counter) -> None:
        self._ways, self._clock = ways, clock
        self._seconds: list[list[float]] = [[] for _ in ways]
        self._calls = 0
        self.chosen: Callable[[], None] | None = None

    def __call__(self) -> None:
        """Do it."""
        if self.chosen is not None:
            self.chosen()
            return
        number = self._calls % len(self._ways)
        begin = self._clock()
        self._ways[number]()
        self._seconds[number].append(self._clock() - begin)
        self._calls += 1
        if self._calls == _TRIALS * len(self._ways):
            medians = [statistics.median(seconds[1:]) for seconds in self._seconds]
            self.chosen = self._ways[medians.index(min(medians))]
