"""Which thread makes which kernel call, so that independent ones run side by side, and the proof that it may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from optimizers.fusion.memory import Memory

_HANDOVER_SECONDS = 0.5e-6
"""What it costs to wait for another thread."""
_BYTES_PER_SECOND = 20e9
_FLOPS_PER_SECOND = 60e9
_CALL_SECONDS = 0.2e-6
_KEPT_STEPS = 24

Span = tuple[int, int, bool]
"""Memory that a call touches: first byte, end, whether it is written."""


class ScheduleError(ValueError):
    """A schedule in which a call may see what another has not written yet, or has overwritten."""


@dataclass(frozen=True, slots=True)
class Task:
    """One kernel call. seconds: an estimate of what it takes."""

    spans: tuple[Span, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Turn:
    """A task on a thread. waits: (thread, how many of its turns must be over) before it may start."""

    task: int
    waits: tuple[tuple[int, int], ...]


def estimated_seconds(nbytes: int, flops: int) -> float:
    """Return about what a kernel takes that moves so many bytes and makes so many operations on one core."""
    return _CALL_SECONDS + max(nbytes / _BYTES_PER_SECOND, flops / _FLOPS_PER_SECOND)


def kept_longer(uses: Mapping[Memory, tuple[int, int, int]], threads: int) -> dict[Memory, tuple[int, int, int]]:
    """Return {memory: (bytes, first step, last step)} with each slot kept for some steps after its last use.

    Memory that is reused at once makes independent calls wait for each other: with several threads it costs more than
    it saves. One thread gains by memory that is still in the nearest cache.
    """
    longer = _KEPT_STEPS if threads > 1 else 0
    return {memory: (nbytes, first, last + longer) for memory, (nbytes, first, last) in uses.items()}


def dependencies(tasks: Sequence[Task]) -> list[list[int]]:
    """Return for each task the earlier ones that it must wait for: they touch the same bytes, and one of them writes.

    What one of these waits for itself is left out where it is certain.
    """
    pairs = conflicts(tasks)
    result: list[list[int]] = []
    above: list[int] = []  # bit k: task k is over when this one is
    for number in range(len(tasks)):
        needed: list[int] = []
        covered = 0
        for earlier in np.flatnonzero(pairs[number, :number])[::-1].tolist():
            if not covered >> earlier & 1:
                needed.append(earlier)
                covered |= above[earlier]
        result.append(needed)
        above.append(covered | 1 << number)
    return result


def conflicts(tasks: Sequence[Task]) -> npt.NDArray[np.bool_]:
    """Return [tasks, tasks]: whether two of them touch the same bytes, and one of them writes."""
    spans = [(number, *span) for number, task in enumerate(tasks) for span in task.spans]
    found = np.zeros((len(tasks), len(tasks)), bool)
    if spans:
        owner, begin, end, writes = (np.array(column) for column in zip(*spans, strict=True))
        for number, first, last, written in spans:
            found[number, owner[(begin < last) & (first < end) & (writes | written)]] = True
    return found


def dealt(tasks: Sequence[Task], threads: int) -> list[list[Turn]]:
    """Return the turns of each thread: tasks in their order, each where it can start first.

    A task that waits for one on its own thread needs no wait; for another thread's it waits for the last of them.
    """
    needed = dependencies(tasks)
    lists: list[list[Turn]] = [[] for _ in range(threads)]
    free = [0.0] * threads
    done: list[float] = []
    home: list[tuple[int, int]] = []
    for number, task in enumerate(tasks):
        starts = [
            max(
                [free[thread]]
                + [done[k] + (_HANDOVER_SECONDS if home[k][0] != thread else 0.0) for k in needed[number]]
            )
            for thread in range(threads)
        ]
        last = home[number - 1][0] if number else 0
        thread = min(range(threads), key=lambda t: (starts[t], t != last, t))
        waits: dict[int, int] = {}
        for k in needed[number]:
            other, position = home[k]
            if other != thread:
                waits[other] = max(waits.get(other, 0), position + 1)
        home.append((thread, len(lists[thread])))
        lists[thread].append(Turn(number, tuple(sorted(waits.items()))))
        free[thread] = starts[thread] + task.seconds
        done.append(free[thread])
    return lists


def verify_schedule(tasks: Sequence[Task], lists: Sequence[Sequence[Turn]]) -> None:
    """Return nothing if every two tasks that touch the same bytes, one writing, run in their order; else raise.

    Raises ScheduleError, too, where a task is missing or made twice, or where threads would wait for each other.
    """
    if sorted(turn.task for turns in lists for turn in turns) != list(range(len(tasks))):
        raise ScheduleError(f"a schedule of {len(tasks)} tasks leaves some out, or repeats some")
    clocks = _clocks(lists)
    place = {turn.task: (t, k) for t, turns in enumerate(lists) for k, turn in enumerate(turns)}
    pairs = np.argwhere(np.tril(conflicts(tasks), -1))
    for later, earlier in pairs.tolist():
        thread, position = place[earlier]
        if clocks[later][thread] <= position:
            raise ScheduleError(f"task {later} may run before task {earlier}, though they share memory")


def _clocks(lists: Sequence[Sequence[Turn]]) -> dict[int, list[int]]:
    """Return for each task how many turns of each thread are surely over when it starts."""
    clocks: dict[int, list[int]] = {}
    over = [0] * len(lists)
    known = [[0] * len(lists) for _ in lists]
    moved = True
    while moved:
        moved = False
        for thread, turns in enumerate(lists):
            while over[thread] < len(turns) and all(over[t] >= n for t, n in turns[over[thread]].waits):
                turn = turns[over[thread]]
                for other, count in turn.waits:
                    seen = clocks[lists[other][count - 1].task]
                    known[thread] = [max(a, b) for a, b in zip(known[thread], seen, strict=True)]
                    known[thread][other] = max(known[thread][other], count)
                clocks[turn.task] = list(known[thread])
                over[thread] += 1
                known[thread][thread] = over[thread]
                moved = True
    if any(count < len(turns) for count, turns in zip(over, lists, strict=True)):
        raise ScheduleError("threads wait for each other")
    return clocks
