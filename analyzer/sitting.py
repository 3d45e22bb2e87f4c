"""Three processes driven in turns: the baseline, the candidate, and the baseline again."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from analyzer.launch import Launch
from analyzer.launcher import AGAIN, BASELINE, CANDIDATE, Variant
from analyzer.schedule import Block, play_block, rhythm_of
from analyzer.timing import Sample

SETTLE_SECONDS = 0.05
SETTLE_STEPS = 2
DEAR_BUILD_SECONDS = 5.0


@dataclass(slots=True)
class Process:
    """A variant's process, as the schedule drives it."""

    variant: Variant
    built: dict[str, Any] = field(default_factory=dict)

    def begin_build(self, layout: int, core: int | None) -> None:
        """Ask for a fresh build without waiting for it."""
        launch = self.variant.launch
        self.variant.send(
            "build", entry=launch.entry, argument=launch.argument, threads=launch.threads, layout=layout, core=core
        )

    def end_build(self) -> None:
        """Wait for the build that was begun."""
        self.built = self.variant.receive()

    def settle(self) -> float:
        """Run warm-up steps and return the quickest one's seconds."""
        return float(self.variant.ask("settle", seconds=SETTLE_SECONDS, least=SETTLE_STEPS)["step_seconds"])

    def turn(self, count: int, repeats: int) -> Sequence[Sample]:
        """Return timed samples."""
        reply = self.variant.ask("block", count=count, repeats=repeats)
        return tuple(Sample(**sample) for sample in reply["samples"])


@dataclass(frozen=True, slots=True)
class Sitting:
    """The three processes of one sitting.

    core: the one that all of them run on while they have one thread each.
    """

    before: Process
    after: Process
    again: Process
    core: int | None = None

    @property
    def processes(self) -> tuple[Process, ...]:
        """Return them in the order in which rounds name their sides."""
        return self.before, self.after, self.again

    @property
    def build_is_dear(self) -> bool:
        """Return whether building takes too long to be done again for every block."""
        return max(float(process.built["seconds"]) for process in self.processes) > DEAR_BUILD_SECONDS

    def build(self) -> None:
        """Build afresh in all processes at once, laid out alike; nothing is timed meanwhile."""
        layout = random.getrandbits(32)
        for process in self.processes:
            process.begin_build(layout, self.core)
        for process in self.processes:
            process.end_build()

    def play(self, block_seconds: float, enough: Callable[[Sequence[Block]], bool]) -> list[Block]:
        """Return block after block, each of fresh builds, until there are enough."""
        found: list[Block] = []
        while True:
            if found and not self.build_is_dear:
                self.build()
            step_seconds = max(process.settle() for process in self.processes)
            found.append(play_block(self.processes, rhythm_of(step_seconds, block_seconds), len(found)))
            if enough(found):
                return found


@contextmanager
def sit(baseline: Launch, candidate: Launch, timeout_seconds: float) -> Iterator[Sitting]:
    """Have the three processes, their variants built; they are ended, with all that they started, on leaving."""
    roles = ((BASELINE, baseline), (CANDIDATE, candidate), (AGAIN, baseline))
    # Drawn anew for each sitting, the same for its three processes: where things lie is no difference between them.
    hash_seed = random.getrandbits(32)
    with ExitStack() as stack:
        processes = [
            Process(stack.enter_context(Variant(launch, role, timeout_seconds=timeout_seconds, hash_seed=hash_seed)))
            for role, launch in roles
        ]
        sitting = Sitting(processes[0], processes[1], processes[2], _any_core())
        sitting.build()
        yield sitting


def _any_core() -> int | None:
    """Return one of the cores that this process may use; None where the system does not tell."""
    try:
        return random.choice(sorted(os.sched_getaffinity(0)))
    except (AttributeError, OSError):
        return None


def deadline(seconds: float) -> Callable[[], bool]:
    """Return a function that says whether so many seconds have passed since."""
    stop = time.monotonic() + seconds
    return lambda: time.monotonic() > stop
