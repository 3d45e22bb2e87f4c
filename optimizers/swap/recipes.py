"""How saved activations can be made again: the forward's own ops, repeated from what is still there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from optimizers.swap.timeline import Buffer, Recipe, Timeline
from optimizers.swap.trace import StepTrace, TracedOp, TracedStorage

MOST_OPS = 8
# An input that is needed much earlier than its own use could hardly be moved itself. As a share of the marks, not of
# the time: what can be made again must not depend on how busy the machine was.
MOST_EARLIER = 0.05
LEAST_EARLIER = 8
GENERATOR_STATE_BYTES = 5120


@dataclass(frozen=True)
class Recipes:
    """The recipes found, the ops that each repeats, and the buffers, needed as early as the recipes need them."""

    buffers: tuple[Buffer, ...]
    recipes: tuple[Recipe, ...]
    ops: dict[tuple[int, int], tuple[int, ...]]


@dataclass(frozen=True)
class _Repetition:
    ops: tuple[int, ...]
    inputs: tuple[int, ...]
    seconds: float
    scratch_bytes: int


def find_recipes(
    trace: StepTrace,
    timeline: Timeline,
    numbers: Mapping[int, int],
    copy_seconds_per_byte: float,
    op_seconds: float = 0.0,
) -> Recipes:
    """Return a recipe for each buffer that can be made again in less time than copies out and back would take.

    numbers: buffer -> storage. copy_seconds_per_byte: 0 sets no limit. op_seconds: what repeating each op takes beside.
    """
    cook = _Cook(trace, timeline, numbers)
    buffers = list(timeline.buffers)
    recipes, ops = [], {}
    longest = max(LEAST_EARLIER, round(trace.marks * MOST_EARLIER))
    # The last made come first: what they need, and when, is known before their inputs are looked at.
    for index in sorted(numbers, key=lambda index: -cook.made_at(index)):
        buffer = buffers[index]
        found = cook.repeat(index, buffer.uses[-1])
        if found is None or _is_dear(found.seconds, buffer.bytes, copy_seconds_per_byte):
            continue
        before = buffer.uses[-1]
        sooner = {source: replace(buffers[source], uses=(buffers[source].uses[0], before))
                  for source in found.inputs if buffers[source].uses[-1] > before}  # fmt: skip
        if any(buffers[source].uses[-1] - before > longest or moved.uses[0] >= before
               for source, moved in sooner.items()):  # fmt: skip
            continue
        for source, moved in sooner.items():
            buffers[source] = moved
        events = tuple(sorted({min(trace.ops[op].mark, before - 1) for op in found.ops}))
        seconds = found.seconds + op_seconds * len(found.ops)
        recipes.append(Recipe(index, before, events, found.inputs, seconds, found.scratch_bytes))
        ops[index, before] = found.ops
    return Recipes(tuple(buffers), tuple(recipes), ops)


def _is_dear(seconds: float, size: int, copy_seconds_per_byte: float) -> bool:
    return copy_seconds_per_byte > 0 and seconds > copy_seconds_per_byte * size


class _Cook:
    def __init__(self, trace: StepTrace, timeline: Timeline, numbers: Mapping[int, int]) -> None:
        self.trace, self.timeline, self.numbers = trace, timeline, numbers
        self.buffer_of = {number: index for index, number in numbers.items()}

    def made_at(self, index: int) -> int:
        """Return the last op that wrote the buffer's storage."""
        return max(self._storage(self.numbers[index]).writers, default=-1)

    def repeat(self, index: int, before: int) -> _Repetition | None:
        """Return the ops that make the buffer again from buffers and from what was there before the forward."""
        target = self.numbers[index]
        made, ops, inputs = {target}, set[int](), set[int]()
        missing = [target]
        while missing:
            storage = self._storage(missing.pop())
            if not storage.writers:
                return None
            for writer in storage.writers:
                op = self.trace.ops[writer]
                if op.refusal or len(ops) >= MOST_OPS:
                    return None
                ops.add(writer)
                if not self._gather(op, made, missing, inputs, before):
                    return None
        if len(ops) > MOST_OPS:
            return None
        seconds = sum(self.trace.op_seconds[op] for op in ops)
        made |= {number for op in ops for number in self.trace.ops[op].outputs if number >= 0}
        scratch = sum(self._storage(number).bytes for number in made if number not in (target, *inputs))
        scratch += sum(GENERATOR_STATE_BYTES for op in ops if self.trace.ops[op].random)
        sources = tuple(sorted(self.buffer_of[number] for number in inputs if number in self.buffer_of))
        return _Repetition(tuple(sorted(ops)), sources, seconds, scratch)

    def _gather(self, op: TracedOp, made: set[int], missing: list[int], inputs: set[int], before: int) -> bool:
        """Note what the op reads; return False where that is gone or was changed since."""
        for number in op.arguments:
            if number < 0:
                return False
            if number in made:
                continue
            storage = self._storage(number)
            later = any(writer >= op.index for writer in storage.writers)
            if later:
                return False
            if not storage.writers:
                continue
            if number in self.buffer_of and self.timeline.is_live(self.buffer_of[number], before):
                inputs.add(number)
            else:
                made.add(number)
                missing.append(number)
        return True

    def _storage(self, number: int) -> TracedStorage:
        return self.trace.storages[number]
