"""What making tensors again costs beside the ops themselves: measured on a small op, as the engine does it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from optimizers.swap.itinerary import OpToRepeat
from optimizers.swap.repetition import OpRecorder, repeat

OPS = 32
ROUNDS = 5
NAME = "aten.add.Tensor"


@dataclass(frozen=True, slots=True)
class RepetitionCost:
    """op_seconds: of each op that is repeated, to note and to repeat it. watch_seconds: of every op of the forward."""

    op_seconds: float = 0.0
    watch_seconds: float = 0.0


FREE = RepetitionCost()


def measure_repetition() -> RepetitionCost:
    """Return what this machine takes, as medians of this thread's own time."""
    source = torch.ones(64)
    wanted = {place: OpToRepeat(place, NAME, (0, 0), (1,), (0,), False) for place in range(OPS)}

    def forward() -> None:
        for _ in range(OPS):
            torch.add(source, source)

    def recorded(ops: dict[int, OpToRepeat]) -> OpRecorder:
        recorder = OpRecorder(ops)
        with recorder:
            forward()
        return recorder

    noted = recorded(wanted).recorded

    def again() -> None:
        for op in noted.values():
            repeat((op,), 1, _none)

    plain, watched, noting, repeating = map(
        _seconds_per_op, (forward, lambda: recorded({}), lambda: recorded(wanted), again)
    )
    return RepetitionCost(max(noting - watched + repeating - plain, 0.0), max(watched - plain, 0.0))


def _none(number: int) -> torch.UntypedStorage:
    raise KeyError(number)


def _seconds_per_op(call: Callable[[], object]) -> float:
    found = []
    for _ in range(ROUNDS):
        begin = time.thread_time()
        call()
        found.append(time.thread_time() - begin)
    return statistics.median(found) / OPS
