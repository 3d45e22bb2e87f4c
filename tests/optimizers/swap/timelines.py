"""Random timelines: small ones of every shape, and a training step of as many tensors as wanted."""

from __future__ import annotations

import random

from optimizers.swap.moves import Tier
from optimizers.swap.timeline import Buffer, Event, Recipe, Timeline

HOST = Tier("host", 4000.0, 4000.0, 0.001)
DISK = Tier("disk", 1000.0, 1500.0, 0.01)


def random_timeline(draw: random.Random, events: int, buffers: int, recipes: bool = True) -> Timeline:
    """Return a timeline of any shape: buffers from before the step, that outlive it, with one use or many."""
    made = [_buffer(draw, index, events) for index in range(buffers)]
    steps = tuple(Event(index, f"op{index}", draw.choice([0.0, 0.001, 0.02, 0.1, 0.3])) for index in range(events))
    timeline = Timeline(steps, tuple(made), constant_bytes=draw.choice([0, 7, 100])).check()
    if not recipes:
        return timeline
    found = []
    for gap in timeline.gaps:
        buffer = timeline.buffers[gap.buffer]
        if gap.wraps or buffer.born < 0 or draw.random() < 0.5:
            continue
        live = [other for other in range(buffers) if other != gap.buffer and timeline.is_live(other, gap.before)]
        inputs = tuple(other for other in live if made[other].born < buffer.born)[: draw.randrange(3)]
        seconds, scratch = draw.choice([0.001, 0.02, 0.2]), draw.choice([0, 0, 13])
        found.append(Recipe(gap.buffer, gap.before, (buffer.born,), inputs, seconds, scratch))
    return Timeline(steps, tuple(made), timeline.constant_bytes, tuple(found)).check()


def _buffer(draw: random.Random, index: int, events: int) -> Buffer:
    born = draw.randrange(-1, events)
    last = draw.randrange(max(born, 0), events)
    span = range(max(born, 0), last + 1)
    uses = set(draw.sample(span, min(len(span), draw.randrange(1, 4))))
    uses |= {born} if born >= 0 else set()
    released = None if draw.random() < 0.3 else last
    left_alone = "in-place use" if draw.random() < 0.15 else ""
    size = draw.choice([0, 1, 64, 100, 257, 1000])
    return Buffer(index, index, size, "activation", born, tuple(sorted(uses)), released, 1, left_alone)


def training_step(draw: random.Random, tensors: int, state: int = 0, recipes: bool = False) -> Timeline:
    """Return a step whose forward makes an activation an op, each read once more in the backward, in reverse.

    `state` further buffers outlive the step and are read at its end only, as an optimizer's state is.
    """
    forward = tensors - state
    events = [Event(i, "op", draw.uniform(1e-5, 3e-4)) for i in range(2 * forward + state)]
    buffers = []
    for index in range(forward):
        uses = (index, min(index + 1, forward), 2 * forward - 1 - index)
        size = draw.choice([4096, 65536, 262144, 1048576, 4194304])
        buffers.append(Buffer(index, index, size, "activation", index, tuple(sorted(set(uses))), uses[-1]))
    for index in range(state):
        buffers.append(
            Buffer(forward + index, forward + index, 1048576, "optimizer_state", -1, (2 * forward + index,), None)
        )
    found = tuple(
        Recipe(index, buffers[index].uses[-1], (index,), (), events[index].seconds)
        for index in range(0, forward - 1, 3)
        if recipes
    )
    return Timeline(tuple(events), tuple(buffers), 1 << 20, found).check()
