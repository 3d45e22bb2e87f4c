"""Training on real ranks until the loss is low enough: how long it takes on each backend, and how that looks."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from optimizers.placement.errors import PlacementError
from optimizers.placement.launch import PlacementLaunch, Ranks

WINDOW = 10
"""The loss of a step is the mean over its ranks and the last steps of this number: single batches vary."""


@dataclass(frozen=True, slots=True)
class Convergence:
    """A training's loss against the time of its steps.

    seconds: since the begin, at the end of each step, batches' drawing left out (measured).
    losses:  the mean of the last WINDOW steps over all ranks.
    reached: whether the last of them is at or below `target_loss`, with which the training ended.
    """

    backend: str
    transport: str
    world_size: int
    target_loss: float
    seconds: tuple[float, ...]
    losses: tuple[float, ...]
    reached: bool

    @property
    def reached_seconds(self) -> float | None:
        """Return when the loss was low enough; None where it never was."""
        return self.seconds[-1] if self.reached else None

    def in_words(self) -> str:
        """Return the outcome as one line."""
        how = f"{self.backend} ({self.transport}), {self.world_size} workers"
        if self.reached_seconds is None:
            return f"{how}: loss {self.losses[-1]:.3g} after {len(self.losses)} steps, not yet {self.target_loss:g}"
        return f"{how}: loss {self.target_loss:g} after {self.reached_seconds:.2f} s, {len(self.losses)} steps"


class Descent:
    """A training under way on ranks that are started already, some steps at a time."""

    def __init__(self, ranks: Ranks, target_loss: float) -> None:
        if not math.isfinite(target_loss):
            raise PlacementError(f"a target loss of {target_loss}; give a finite number")
        self._ranks, self._target_loss = ranks, target_loss
        self._seconds: list[float] = []
        self._raw: list[float] = []

    def go_on(self, steps: int) -> float:
        """Train on the batches that come next; return the seconds that the steps took."""
        done = len(self._raw)
        found = self._ranks.steps(steps, seeds=range(done + 1, done + 1 + steps))
        taken = [step.seconds for step in found.steps]
        self._seconds += taken
        self._raw += [statistics.fmean(losses) for losses in zip(*found.losses, strict=True)]
        return sum(taken)

    def found(self) -> Convergence:
        """Return the training so far; it ends with the step that reached the target, if one has."""
        ends, total = [], 0.0
        for seconds in self._seconds:
            total += seconds
            ends.append(total)
        losses = [
            statistics.fmean(self._raw[max(0, position + 1 - WINDOW) : position + 1])
            for position in range(len(self._raw))
        ]
        # The first steps' mean is of fewer: none of them ends a training.
        last = next((at + 1 for at, loss in enumerate(losses) if at + 1 >= WINDOW and loss <= self._target_loss), None)
        launch = self._ranks.launch
        return Convergence(
            launch.backend,
            self._ranks.transport,
            launch.world_size,
            self._target_loss,
            tuple(ends[:last]),
            tuple(losses[:last]),
            last is not None,
        )

    @property
    def is_over(self) -> bool:
        """Return whether the target is reached."""
        return self.found().reached


def train_to_loss(launch: PlacementLaunch, target_loss: float, most_steps: int) -> Convergence:
    """Return how a launch's loss fell until it was low enough, or for `most_steps` steps."""
    with Ranks(launch) as ranks:
        descent = Descent(ranks, target_loss)
        for first in range(0, most_steps, WINDOW):
            descent.go_on(min(WINDOW, most_steps - first))
            if descent.is_over:
                break
        return descent.found()
