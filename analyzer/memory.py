"""Live bytes through one step: what was alive before it, and what the allocator handed out and took back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analyzer.graph import Op, Tensor
from analyzer.run import MemoryProfile

POINTS = 2000
AT_PEAK = ("parameter", "gradient", "optimizer_state", "activation", "temporary", "input", "unknown")


@dataclass(frozen=True, slots=True)
class Block:
    """One block of memory. born and released are seconds since the step began; None: before it, or not in it."""

    storage: int
    bytes: int
    category: str
    born: float | None = None
    released: float | None = None


def profile_memory(blocks: Sequence[Block]) -> MemoryProfile:
    """Return peak, categories at the peak and the course of live bytes.

    A release takes effect before an allocation of the same instant.
    """
    live = dict.fromkeys(AT_PEAK, 0)
    for block in blocks:
        if block.born is None:
            live[block.category] += block.bytes
    total = peak = sum(live.values())
    at_peak = dict(live)
    course = [(0.0, total)]
    for seconds, change, category in sorted(_changes(blocks)):
        live[category] += change
        total += change
        if total > peak:
            peak, at_peak = total, dict(live)
        if course[-1][0] == seconds:
            course.pop()
        course.append((seconds, total))
    return MemoryProfile(peak, {name: size for name, size in at_peak.items() if size}, thin_out(course))


def _changes(blocks: Iterable[Block]) -> Iterable[tuple[float, int, str]]:
    for block in blocks:
        if block.born is not None:
            yield block.born, block.bytes, block.category
        if block.released is not None:
            yield block.released, -block.bytes, block.category


def thin_out(course: Sequence[tuple[float, int]], points: int = POINTS) -> tuple[tuple[float, int], ...]:
    """Return at most `points` of the course: first and last, and the lowest and highest of each stretch between."""
    if len(course) <= points:
        return tuple(course)
    stretches = max((points - 2) // 2, 1)
    kept = {0, len(course) - 1}
    for stretch in range(stretches):
        begin, end = stretch * len(course) // stretches, (stretch + 1) * len(course) // stretches
        kept.add(min(range(begin, end), key=lambda place: course[place][1]))
        kept.add(max(range(begin, end), key=lambda place: course[place][1]))
    return tuple(course[place] for place in sorted(kept))


def categorise_storages(
    ops: Sequence[Op],
    tensors: Sequence[Tensor],
    known: Mapping[int, str],
    before: Iterable[int],
) -> dict[int, str]:
    """Return the category of each storage that the ops touch or that was there before.

    known:  storage -> category, from what the workload holds before and after the step.
    before: storages that existed before the step; one that nothing explains is "unknown".
    An activation was written in the forward and is read in the backward; all else that the step makes is temporary.
    """
    categories = dict.fromkeys(before, "unknown")
    written_forward: set[int] = set()
    for op in ops:
        touched = [tensors[index].storage for index in op.outputs]
        for storage in touched:
            if categories.setdefault(storage, "temporary") == "temporary" and op.phase == "forward":
                written_forward.add(storage)
        if op.phase == "backward":
            for index in op.inputs:
                if tensors[index].storage in written_forward:
                    categories[tensors[index].storage] = "activation"
    return {**categories, **known}
