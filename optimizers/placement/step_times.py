"""Where the time of a data-parallel step goes: compute, communication that it waits for, communication beside it.

All backends are measured by the same marks, on one rank, with one clock:

    begun        the step begins (gradients are cleared)
    last ready   autograd has written the last gradient
    exchanged    the optimizer may run, or (where a server runs it) the new parameters are there
    ended        the step is over

    exposed = exchanged - last ready: what the step waits for
    compute = (ended - begun) - exposed: forward, backward, optimizer, and what they lose to communication beside them
    hidden  = time before `last ready` in which at least one message was under way
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StepTimes:
    """One step, in seconds; seconds = compute_seconds + exposed_seconds."""

    seconds: float
    compute_seconds: float
    exposed_seconds: float
    hidden_seconds: float


@dataclass(slots=True)
class Marks:
    """The marks of the step under way. Messages may be noted from any thread."""

    clock: Callable[[], float] = time.perf_counter
    begun: float = 0.0
    last_ready: float = 0.0
    exchanged: float = 0.0
    messages: list[tuple[float, float]] = field(default_factory=list)
    ask_after: Callable[[], Iterable[tuple[float, float]]] | None = None
    """Where messages are asked for once the step is over, so that its time has no part in it."""

    def begin(self) -> None:
        """Begin a step."""
        self.messages = []
        self.begun = self.last_ready = self.exchanged = self.clock()

    def gradient_ready(self) -> None:
        """Note that a gradient was written; the last one of the step counts."""
        self.last_ready = self.clock()

    def message(self, begun: float, finished: float) -> None:
        """Note one message, by the same clock."""
        self.messages.append((begun, finished))

    def sending(self) -> Callable[[object], None]:
        """Return a callback that notes a message which begins now and is over when it is called."""
        messages, begun = self.messages, self.clock()
        return lambda _: messages.append((begun, self.clock()))

    def all_exchanged(self) -> None:
        """Note that the optimizer may run."""
        self.exchanged = self.clock()

    def end(self) -> StepTimes:
        """End the step and return where its time went."""
        seconds = self.clock() - self.begun
        exposed = max(self.exchanged - self.last_ready, 0.0)
        messages = self.messages if self.ask_after is None else [*self.messages, *self.ask_after()]
        hidden = covered(messages, self.begun, self.last_ready)
        return StepTimes(seconds, seconds - exposed, exposed, hidden)


def covered(spans: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    """Return how much of [begin, end] at least one of the spans covers."""
    total, reached = 0.0, begin
    for first, last in sorted(spans):
        first, last = max(first, reached), min(last, end)
        if last > first:
            total += last - first
            reached = last
    return total


def mean_of_ranks(ranks: Sequence[StepTimes]) -> StepTimes:
    """Return the mean of one step's times over its ranks, which run in lockstep."""
    count = len(ranks)
    return StepTimes(
        sum(item.seconds for item in ranks) / count,
        sum(item.compute_seconds for item in ranks) / count,
        sum(item.exposed_seconds for item in ranks) / count,
        sum(item.hidden_seconds for item in ranks) / count,
    )
