"""The timeline of a captured run: ops become events, storages become buffers, forward ops become recipes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from analyzer.graph import Graph, Op, Tensor
from analyzer.run import Run
from optimizers.swap.timeline import Buffer, Event, Recipe, SwapError, Timeline

MOVABLE = ("activation", "optimizer_state")
OUTLIVES = ("parameter", "gradient", "optimizer_state", "input", "unknown")
BEFORE = ("parameter", "optimizer_state", "input", "unknown")
LEAST_BYTES = 16 << 10
MOST_EVENTS = 8
# What draws random numbers, or updates a state that its schema does not name, gives another result when repeated.
UNREPEATABLE = (
    "dropout", "rand", "bernoulli", "multinomial", "normal_", "uniform", "exponential", "rrelu", "attention",
    "batch_norm",
)  # fmt: skip


def from_run(run: Run, movable: Collection[str] = MOVABLE, least_bytes: int = LEAST_BYTES) -> Timeline:
    """Return the timeline of the run's step, its times scaled to the step without a profiler.

    An event is an ATen op that the program asked for, or an executing op outside of any. A buffer is one storage; its
    views are uses of it, never buffers of their own. Only the movable categories may be moved, and of activations only
    those that nothing writes in place after the event that made them. What the engine can do is what a traced step
    shows it: an activation leaves between its last use in the forward and its first in the backward, and the
    optimizer's state is in use as long as the optimizer is; smaller tensors than least_bytes stay. constant_bytes is
    what the measured peak has beyond the buffers'. Raises SwapError for a run without ops.
    """
    graph = run.graph
    if not graph.ops:
        raise SwapError(f"run {run.name!r} has no ops; capture it again")
    stretches = _stretches(graph)
    events = _timed_events(graph, stretches, run.step_seconds.median, run.device.kind)
    uses = _use_storages(graph, stretches, run.device.kind)
    phases = tuple(graph.ops[stretch[0]].phase for stretch in stretches)
    buffers = tuple(_buffer(index, use, phases, movable, least_bytes) for index, use in enumerate(uses))
    timeline = Timeline(events, buffers)
    lacking = run.memory.peak_bytes - timeline.peak_bytes
    notes = () if lacking >= 0 else (f"the storages' sizes sum to {-lacking} bytes more than the measured peak",)
    timeline = replace(timeline, constant_bytes=max(lacking, 0), notes=notes)
    return replace(timeline, recipes=_recipes(timeline, graph, stretches, uses)).check()


@dataclass
class _Use:
    """What the events do with one storage."""

    storage: int
    bytes: int = 0
    category: str = "temporary"
    before: bool = False
    tensors: int = 0
    events: set[int] = field(default_factory=set)
    writes: set[int] = field(default_factory=set)


def _stretches(graph: Graph) -> tuple[tuple[int, ...], ...]:
    """Return the ops of each event, the outermost first."""
    tops = graph.top_level_of
    found: dict[int, list[int]] = {}
    for op in graph.ops:
        head = tops[op.index] if tops[op.index] >= 0 else op.index if op.executes else -1
        if head >= 0:
            found.setdefault(head, []).append(op.index)
    return tuple(tuple(found[head]) for head in sorted(found))


def _timed_events(
    graph: Graph, stretches: Sequence[Sequence[int]], step_seconds: float, device: str
) -> tuple[Event, ...]:
    raw = [sum(_seconds(graph.ops[index], device) for index in stretch) for stretch in stretches]
    # What no event explains (the interpreter, the autograd engine) is spread over all in proportion.
    scale = step_seconds / sum(raw) if sum(raw) > 0 else 0.0
    return tuple(
        Event(stretch[0], graph.ops[stretch[0]].name, seconds * scale)
        for stretch, seconds in zip(stretches, raw, strict=True)
    )


def _seconds(op: Op, device: str) -> float:
    measured = op.device_seconds if device == "cuda" and op.device_seconds is not None else op.self_seconds
    return 0.0 if measured is None else measured.median


def _use_storages(graph: Graph, stretches: Sequence[Sequence[int]], device: str) -> list[_Use]:
    """Return the storages on the run's device in the order of their identities."""
    uses: dict[int, _Use] = {}
    for tensor in graph.tensors:
        if tensor.device.split(":")[0] != device:
            continue
        use = uses.setdefault(tensor.storage, _Use(tensor.storage))
        use.bytes = max(use.bytes, _reach(tensor))
        use.tensors += 1
        if use.category == "temporary":
            use.category = tensor.category
            use.before = tensor.category in BEFORE or (tensor.category == "gradient" and tensor.producer < 0)
    for event, stretch in enumerate(stretches):
        for op in (graph.ops[index] for index in stretch):
            for index in (*op.outputs, *op.inputs, *op.mutates):
                use_or_none = uses.get(graph.tensors[index].storage)
                if use_or_none is not None:
                    # A gradient that its first op puts out is new; one that the op only reads is from the last step.
                    if not use_or_none.events and use_or_none.category == "gradient" and index in op.outputs:
                        use_or_none.before = False
                    use_or_none.events.add(event)
            for index in op.mutates:
                if graph.tensors[index].storage in uses:
                    uses[graph.tensors[index].storage].writes.add(event)
    return [uses[storage] for storage in sorted(uses) if uses[storage].events or uses[storage].before]


def _reach(tensor: Tensor) -> int:
    """Return the bytes from the storage's start to the tensor's end."""
    elements = 1
    for size in tensor.shape:
        elements *= size
    if elements == 0:
        return 0
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    return (last + 1) * (tensor.nbytes // elements)


def _buffer(index: int, use: _Use, phases: Sequence[str], movable: Collection[str], least_bytes: int) -> Buffer:
    uses = tuple(sorted(use.events))
    born = -1 if use.before else uses[0]
    outlives = use.category in OUTLIVES or not uses
    last = uses[-1] if uses else -1
    reason = "" if use.category in movable else f"{use.category} tensors stay"
    written_later = use.writes - {born}
    if not reason and use.category != "optimizer_state" and written_later:
        reason = f"event {min(written_later)} writes it in place"
    if not reason and use.bytes < least_bytes:
        reason = f"tensors below {least_bytes} bytes stay"
    if not reason:
        uses = _in_updates(uses, phases) if use.category == "optimizer_state" else _saved(uses, phases)
    return Buffer(
        index, use.storage, use.bytes, use.category, born, uses, None if outlives else last, use.tensors, reason
    )


def _saved(uses: tuple[int, ...], phases: Sequence[str]) -> tuple[int, ...]:
    """Return the uses with one gap at the most: from the last one of the forward to the first one of the backward."""
    before = [event for event in uses if phases[event] == "forward"]
    after = [event for event in uses if phases[event] == "backward"]
    if not before or not after or before[-1] > after[0]:
        return uses[:1]
    return (before[-1], after[0])


def _in_updates(uses: tuple[int, ...], phases: Sequence[str]) -> tuple[int, ...]:
    """Return the events from the first to the last of the optimizer's, and the uses outside of them."""
    updates = [event for event, phase in enumerate(phases) if phase == "optimizer"]
    return tuple(sorted({*uses, *range(updates[0], updates[-1] + 1)})) if updates else uses


def _recipes(
    timeline: Timeline, graph: Graph, stretches: Sequence[Sequence[int]], uses: Sequence[_Use]
) -> tuple[Recipe, ...]:
    cook = _Cook(timeline, graph, stretches, uses)
    found = (cook.recipe(gap.buffer, gap.before) for gap in timeline.gaps if not gap.wraps)
    return tuple(recipe for recipe in found if recipe is not None)


class _Cook:
    """Finds the ops that make a buffer again from buffers that are still there."""

    def __init__(
        self, timeline: Timeline, graph: Graph, stretches: Sequence[Sequence[int]], uses: Sequence[_Use]
    ) -> None:
        self.timeline, self.uses = timeline, uses
        place: Mapping[int, int] = {use.storage: index for index, use in enumerate(uses)}
        self.reads: dict[int, set[int]] = defaultdict(set)
        self.made: dict[int, set[int]] = defaultdict(set)
        self.repeatable: list[bool] = []
        for event, stretch in enumerate(stretches):
            ops = [graph.ops[index] for index in stretch]
            touched = {place.get(graph.tensors[index].storage, -1) for op in ops for index in (*op.inputs, *op.outputs)}
            self.made[event] = {index for index in touched if index >= 0 and timeline.buffers[index].born == event}
            self.reads[event] = touched - self.made[event]
            changes = any(event in uses[index].writes for index in self.reads[event] if index >= 0)
            random = any(word in op.name for op in ops for word in UNREPEATABLE)
            self.repeatable.append(not changes and not random and "empty" not in ops[0].name)

    def recipe(self, buffer: int, before: int) -> Recipe | None:
        """Return how the buffer is made again just before the event; None where it is not possible."""
        missing, events, inputs = [buffer], set[int](), set[int]()
        while missing:
            event = self.timeline.buffers[missing[-1]].born
            missing.pop()
            if event < 0 or not self.repeatable[event] or len(events) >= MOST_EVENTS:
                return None
            if event in events:
                continue
            events.add(event)
            for source in self.reads[event]:
                if source < 0 or any(event < written < before for written in self.uses[source].writes):
                    return None
                if self.timeline.is_live(source, before):
                    inputs.add(source)
                elif self.uses[source].writes - {self.timeline.buffers[source].born}:
                    return None
                else:
                    missing.append(source)
        # What the events make beside the buffer; a source that is still there is made a second time, too.
        scratch = {index for event in events for index in self.made[event]} - {buffer}
        size = sum(self.timeline.buffers[index].bytes for index in scratch)
        seconds = sum(self.timeline.events[event].seconds for event in events)
        inputs.discard(buffer)
        return Recipe(buffer, before, tuple(sorted(events)), tuple(sorted(inputs)), seconds, size)
