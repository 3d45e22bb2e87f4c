"""Timing inside a variant's process: samples of a few steps each, with the CPU time and the waiting beside them."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

SAMPLE_SECONDS = 0.004
LEAD_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed stretch, by the step.

    seconds:     wall clock (on a GPU: between two CUDA events).
    cpu_seconds: CPU time of all threads of the process.
    waited:      time the main thread was runnable but another process had the core; None where not known.
    """

    seconds: float
    cpu_seconds: float
    waited: float | None

    @property
    def undisturbed(self) -> float:
        """Return the wall clock's seconds less those that the thread waited for a core: what it takes on its own."""
        return self.seconds - min(self.waited or 0.0, 0.9 * self.seconds)


class Clock(Protocol):
    """What a stretch of steps is timed with; tests inject one that advances by itself."""

    def wall(self) -> float:
        """Return seconds on the wall clock; on a GPU everything launched before has ended."""
        ...

    def cpu(self) -> float:
        """Return CPU seconds of this process."""
        ...

    def waited(self) -> float | None:
        """Return seconds that this thread has spent waiting for a core, or None."""
        ...


class ProcessClock:
    """The process's own clocks."""

    def __init__(self) -> None:
        path = Path("/proc/thread-self/schedstat")
        # Kept open: re-opening would cost more than the shortest step.
        self._schedule = os.open(path, os.O_RDONLY) if path.exists() else None

    def wall(self) -> float:
        """Return seconds on the wall clock."""
        return time.perf_counter()

    def cpu(self) -> float:
        """Return CPU seconds of this process, all threads."""
        return time.process_time()

    def waited(self) -> float | None:
        """Return seconds that the thread which made the clock was runnable without a core."""
        if self._schedule is None:
            return None
        return int(os.pread(self._schedule, 96, 0).split()[1]) * 1e-9


class Event(Protocol):
    """The part of torch.cuda.Event that a clock needs."""

    def record(self) -> None:
        """Put the event at the end of the device's stream."""
        ...

    def synchronize(self) -> None:
        """Wait until the device has passed the event."""
        ...

    def elapsed_time(self, end_event: Event) -> float:
        """Return the milliseconds between this event and a later one."""
        ...


class DeviceClock(ProcessClock):
    """The clock of a GPU's stream: the seconds between events, each of which is waited for."""

    def __init__(self, make_event: Callable[[], Event]) -> None:
        super().__init__()
        self._make_event = make_event
        self._last = self._mark()
        self._seconds = 0.0

    def wall(self) -> float:
        """Return seconds on the device since the clock was made; everything launched before has ended."""
        # From event to event: the driver's single precision would be too coarse over a whole experiment.
        event = self._mark()
        self._seconds += self._last.elapsed_time(event) * 1e-3
        self._last = event
        return self._seconds

    def waited(self) -> float | None:
        """Return None: the device does not wait for a core."""
        return None

    def _mark(self) -> Event:
        event = self._make_event()
        event.record()
        event.synchronize()
        return event


def take_samples(step: Callable[[], object], clock: Clock, count: int, repeats: int) -> tuple[Sample, ...]:
    """Return `count` samples of `repeats` steps each, in figures a step."""
    samples = []
    for _ in range(count):
        waited, cpu, start = clock.waited(), clock.cpu(), clock.wall()
        for _ in range(repeats):
            step()
        seconds = clock.wall() - start
        after = clock.waited()
        lost = None if waited is None or after is None else (after - waited) / repeats
        samples.append(Sample(seconds / repeats, (clock.cpu() - cpu) / repeats, lost))
    return tuple(samples)


def lead_in(step: Callable[[], object], clock: Clock, step_seconds: float) -> None:
    """Run steps untimed for a moment: the other variant's block has just emptied the caches.

    A step longer than that refills them itself.
    """
    if step_seconds > LEAD_SECONDS:
        return
    stop = clock.wall() + LEAD_SECONDS
    step()
    while clock.wall() < stop:
        step()


def settle(step: Callable[[], object], clock: Clock, seconds: float, least: int) -> float:
    """Run at least `least` steps and `seconds` untimed and return the quickest step's seconds.

    What is alive afterwards is taken out of the garbage collector's view, so that its rounds cost what the
    step itself allocates, the same in each process.
    """
    stop, quickest, done = clock.wall() + seconds, float("inf"), 0
    while done < least or clock.wall() < stop:
        start = clock.wall()
        step()
        quickest = min(quickest, clock.wall() - start)
        done += 1
    gc.collect()
    gc.freeze()
    return quickest
