"""The ops of one timed step: names, nesting and self times by position."""

from __future__ import annotations

from dataclasses import dataclass

from analyzer.capture.recording import OpEvent, self_nanoseconds


@dataclass(frozen=True)
class StepOps:
    """The ops of one step by position; the self time, in nanoseconds, is None for an op that was not timed."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    self_nanoseconds: tuple[float | None, ...]


def step_ops(ops: list[OpEvent]) -> StepOps:
    """Return names, parents and self times of one step's ops, thread by thread in order of their first op."""
    order = thread_major(ops)
    own = self_nanoseconds(ops)
    place = {index: position for position, index in enumerate(order)}
    return StepOps(
        names=tuple(ops[index].name for index in order),
        parents=tuple(place.get(ops[index].parent, -1) for index in order),
        self_nanoseconds=tuple(own[index] for index in order),
    )


def thread_major(ops: list[OpEvent]) -> list[int]:
    """Return the ops' indices thread by thread: where threads run side by side, order in time is not stable."""
    ranks: dict[int, int] = {}
    for op in ops:
        ranks.setdefault(op.thread, len(ranks))
    return sorted(range(len(ops)), key=lambda index: (ranks[ops[index].thread], index))
