"""A step of many workers as simulated: tasks that wait for each other and share processors and links.

A task starts when all that it comes after are over. Its latency passes first and takes nothing; then it runs, at full
speed while there is enough of everything that it uses, else slower: what is short is shared max-min fairly, so that no
task is slowed for the sake of one that runs faster than it. Work that several workers do alike is one task whose use is
theirs together. An exchange that was measured beside computing goes on, while there is some, as it did there.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from optimizers.placement.errors import PlacementError

_SOON = 1e-12
"""Ends that lie closer together than this, relative to the clock, are one moment."""
_MOST_BESIDE = 0.9
"""Of what there is, for tasks that run at a measured pace beside others: computing always goes on."""


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work.

    seconds: what it takes with all that it uses to itself, latency_seconds not included.
    uses:    (resource, units of it while the task runs at full speed).
    after:   indices of earlier tasks that must be over.    lane: who does it, for the reader.
    beside_uses, beside_pace: what it uses for each of its seconds, and how fast it is at most, while tasks that have
        none of these use the same resources; without them it is a task like those.
    """

    name: str
    lane: str
    kind: str
    seconds: float
    uses: tuple[tuple[str, float], ...] = ()
    after: tuple[int, ...] = ()
    latency_seconds: float = 0.0
    beside_uses: tuple[tuple[str, float], ...] = ()
    beside_pace: float = 1.0


@dataclass(frozen=True)
class Simulation:
    """When each task ran, in seconds since the step began. Simulated, never measured.

    busy: share of each resource's capacity, from 0 to 1, that was used over the step.
    """

    tasks: tuple[Task, ...]
    starts: tuple[float, ...]
    ends: tuple[float, ...]
    busy: dict[str, float]

    @cached_property
    def step_seconds(self) -> float:
        """Return when the last task is over; 0 where there is none."""
        return max(self.ends, default=0.0)

    def busy_seconds(self, kind: str, lane: str) -> float:
        """Return how long a lane did tasks of a kind."""
        return sum(
            end - start
            for task, start, end in zip(self.tasks, self.starts, self.ends, strict=True)
            if task.kind == kind and task.lane == lane
        )

    def union_seconds(self, kinds: Sequence[str], lane: str = "") -> float:
        """Return how long at least one task of these kinds ran (on one lane, where one is given)."""
        spans = sorted(
            (start, end)
            for task, start, end in zip(self.tasks, self.starts, self.ends, strict=True)
            if task.kind in kinds and (not lane or task.lane == lane)
        )
        total, reached = 0.0, -math.inf
        for start, end in spans:
            total += max(end - max(start, reached), 0.0)
            reached = max(reached, end)
        return total


def simulate(tasks: Sequence[Task], capacities: Mapping[str, float]) -> Simulation:
    """Return the tasks on a clock. Raises PlacementError for tasks or capacities that cannot be."""
    check_tasks(tasks, capacities)
    return _Clock(tasks, capacities).run()


def check_tasks(tasks: Sequence[Task], capacities: Mapping[str, float]) -> None:
    """Raise PlacementError for a task that waits for a later one, uses what is not there, or takes no finite time."""
    for name, capacity in capacities.items():
        if not 0.0 < capacity < math.inf:
            raise PlacementError(f"{name} has a capacity of {capacity}; give a finite one above 0")
    for place, task in enumerate(tasks):
        if not (0.0 <= task.seconds < math.inf and 0.0 <= task.latency_seconds < math.inf):
            raise PlacementError(f"task {task.name} takes {task.seconds} s after {task.latency_seconds} s; give finite")
        if any(not 0 <= before < place for before in task.after):
            raise PlacementError(f"task {task.name} at {place} comes after {task.after}; name earlier tasks alone")
        if not 0.0 < task.beside_pace <= 1.0:
            raise PlacementError(f"task {task.name} has a pace of {task.beside_pace}; give one above 0, at most 1")
        for name, units in (*task.uses, *task.beside_uses):
            if name not in capacities or not 0.0 <= units < math.inf:
                raise PlacementError(f"task {task.name} uses {units} of {name}; known: {', '.join(sorted(capacities))}")


class _Clock:
    """What is over, what waits out its latency, and what runs at which rate."""

    def __init__(self, tasks: Sequence[Task], capacities: Mapping[str, float]) -> None:
        self.tasks, self.capacities = tasks, dict(capacities)
        self.waiting = [len(task.after) for task in tasks]
        self.followers: list[list[int]] = [[] for _ in tasks]
        for place, task in enumerate(tasks):
            for before in task.after:
                self.followers[before].append(place)
        self.starts, self.ends = [0.0] * len(tasks), [0.0] * len(tasks)
        self.latent: list[tuple[float, int]] = []
        self.left: dict[int, float] = {}
        self.used = dict.fromkeys(self.capacities, 0.0)
        self.now = 0.0

    def run(self) -> Simulation:
        for place, count in enumerate(self.waiting):
            if count == 0:
                self._start(place)
        while self.latent or self.left:
            self._advance()
        busy = {
            name: min(used / (self.capacities[name] * self.now), 1.0) if self.now else 0.0
            for name, used in self.used.items()
        }
        return Simulation(tuple(self.tasks), tuple(self.starts), tuple(self.ends), busy)

    def _start(self, place: int) -> None:
        self.starts[place] = self.now
        heapq.heappush(self.latent, (self.now + self.tasks[place].latency_seconds, place))

    def _advance(self) -> None:
        """Go on to the next moment at which a latency or a task is over."""
        running = [self.tasks[place] for place in self.left]
        pace = dict(zip(self.left, fair_rates(running, self.capacities), strict=True))
        uses = dict(zip(self.left, uses_now(running), strict=True))
        ends = [self.now + left / pace[place] for place, left in self.left.items()]
        until = min([*ends, *(moment for moment, _ in self.latent[:1])])
        passed = max(until - self.now, 0.0)
        for place, rate in pace.items():
            self.left[place] -= passed * rate
            for name, units in uses[place]:
                self.used[name] += passed * rate * units
        self.now = max(until, self.now)
        soon = _SOON * max(self.now, 1e-3)
        while self.latent and self.latent[0][0] <= self.now + soon:
            place = heapq.heappop(self.latent)[1]
            self.left[place] = self.tasks[place].seconds
        for place in [place for place, left in self.left.items() if left <= soon]:
            self._finish(place)

    def _finish(self, place: int) -> None:
        del self.left[place]
        self.ends[place] = self.now
        for follower in self.followers[place]:
            self.waiting[follower] -= 1
            if self.waiting[follower] == 0:
                self._start(follower)


def uses_now(tasks: Sequence[Task]) -> list[tuple[tuple[str, float], ...]]:
    """Return what each of the tasks uses at full speed while just these run."""
    computed_on = {name for task in tasks if not task.beside_uses for name, units in task.uses if units > 0}
    return [
        task.beside_uses if task.beside_uses and any(name in computed_on for name, _ in task.uses) else task.uses
        for task in tasks
    ]


def fair_rates(tasks: Sequence[Task], capacities: Mapping[str, float]) -> list[float]:
    """Return the rate of each task, above 0 and at most 1: max-min fair in what each uses of what is there.

    Those beside computing come first: the pace at which they were measured is what they have.
    """
    uses = uses_now(tasks)
    beside = {place for place, task in enumerate(tasks) if task.beside_uses and uses[place] is task.beside_uses}
    free = {name: capacity * _MOST_BESIDE for name, capacity in capacities.items()}
    rates = [0.0] * len(tasks)
    _share(rates, [task.beside_pace for task in tasks], uses, beside, free)
    for name, capacity in capacities.items():
        free[name] += capacity * (1.0 - _MOST_BESIDE)
    _share(rates, [1.0] * len(tasks), uses, set(range(len(tasks))) - beside, free)
    return rates


def _share(
    rates: list[float],
    most: Sequence[float],
    uses: Sequence[tuple[tuple[str, float], ...]],
    growing: set[int],
    free: dict[str, float],
) -> None:
    """Return nothing; raise the rates of those that grow together until each is at its most or short of something."""
    while growing:
        demand: dict[str, float] = {}
        for place in growing:
            for name, units in uses[place]:
                demand[name] = demand.get(name, 0.0) + units
        step = min(most[place] - rates[place] for place in growing)
        tight = {name: free[name] / units for name, units in demand.items() if units > 0}
        step = min([step, *tight.values()])
        for place in growing:
            rates[place] += step
        for name, units in demand.items():
            free[name] -= step * units
        full = {name for name, limit in tight.items() if limit <= step * (1 + 1e-12)}
        growing = {
            place
            for place in growing
            if rates[place] < most[place] - 1e-12 and not any(name in full and units > 0 for name, units in uses[place])
        }
