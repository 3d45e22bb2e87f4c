"""Traces a workload's step: a pass that records memory and who holds what, and passes that time it."""

from __future__ import annotations

import bisect
import gc
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from analyzer.capture.quiet import quiet_profiler
from analyzer.peak import MemoryRecording, record_two_steps
from analyzer.workload import Stepper
from optimizers.swap.errors import SwapError
from optimizers.swap.forward_ops import OpTimer, OpTracer, SeenStorage, StorageNumbers, references_to
from optimizers.swap.hooks import MARK, StepHooks
from optimizers.swap.optimizer_state import list_state
from optimizers.swap.plain import is_plain
from optimizers.swap.trace import Allocation, StepTrace, TracedStorage

TIMED_STEPS = 5
WARM_UP = 2


def trace_step(stepper: Stepper, timed_steps: int = TIMED_STEPS) -> StepTrace:
    """Return the trace of the workload's training step; it runs steps, whose effects stay.

    Raises SwapError for a workload that does not train, or whose steps differ from one another.
    """
    workload = stepper.workload
    if not workload.training:
        raise SwapError("the workload does not train (no loss and optimizer): nothing is saved that could be moved")
    for _ in range(WARM_UP):
        stepper.step()
    recording, memory = _record(stepper)
    events, ops = _time(stepper, recording, timed_steps)
    allocations = by_event(memory, recording.marks)
    if not allocations:
        raise SwapError("the profiler lost marks of the step; fit it again")
    return StepTrace(
        marks=recording.marks,
        storages=tuple(recording.storages()),
        ops=tuple(recording.tracer.ops) if recording.tracer is not None else (),
        state=list_state(workload.optimizer),
        allocations=allocations,
        before_bytes=memory.before_bytes,
        updates=(recording.updates[0], recording.updates[1]) if len(recording.updates) == 2 else None,
        position_bytes=tuple(recording.position_bytes),
        event_seconds=events,
        op_seconds=ops,
    )


def by_event(memory: MemoryRecording, marks: int) -> tuple[Allocation, ...]:
    """Return what the allocator did, by event; nothing where not all marks were recorded."""
    times = [when for when, name in memory.annotations if name == MARK]
    if len(times) != marks:
        return ()
    return tuple(
        Allocation(bisect.bisect_left(times, change.nanoseconds), change.address, change.bytes)
        for change in memory.changes
    )


def highest_by_event(before_bytes: int, allocations: Sequence[Allocation], events: int) -> tuple[int, ...]:
    """Return the highest live bytes of each event."""
    highest = [0] * events
    live, event = before_bytes, -1
    for allocation in allocations:
        highest[event + 1 : allocation.event + 1] = [live] * (allocation.event - event)
        event = allocation.event
        live += allocation.bytes
        highest[event] = max(highest[event], live)
    highest[event + 1 :] = [live] * (events - event - 1)
    return tuple(highest)


@dataclass
class _Saved:
    """What is known of a storage that autograd saved; it does not hold it."""

    seen: SeenStorage
    packed: int
    packs: list[int] = field(default_factory=list)
    unpacks: list[int] = field(default_factory=list)
    idle: int | None = None
    left_alone: str = ""

    def note_idle(self, mark: int) -> bool:
        """Return whether only autograd holds the storage: as many references as there are packed tensors."""
        if references_to(self.seen) > len(self.packs):
            return False
        self.idle = mark
        return True


class _Kept:
    """A saved tensor of the traced step."""

    __slots__ = ("alias", "saved", "version")

    def __init__(self, tensor: torch.Tensor, saved: _Saved | None) -> None:
        self.alias, self.version, self.saved = tensor.detach(), tensor._version, saved


class _Recorder:
    """The handler of a traced step."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.numbers = StorageNumbers()
        self.saved: dict[int, _Saved] = {}
        self.waiting: list[_Saved] = []
        self.marks = 0
        self.position_bytes: list[int] = []
        self.updates: list[int] = []
        self.tracer: OpTracer | None = None

    def is_busy(self) -> bool:
        return False

    def begin(self) -> TorchDispatchMode | None:
        self._reset()
        self._mark(0)
        self.tracer = OpTracer(self.numbers, lambda: self.marks)
        return self.tracer

    def pack(self, mark: int, position: int, tensor: torch.Tensor) -> _Kept:
        self._mark(mark)
        if not is_plain(tensor):
            self.position_bytes.append(-1)
            return _Kept(tensor, None)
        seen = self.numbers.of(tensor.untyped_storage())
        self.position_bytes.append(seen.bytes)
        saved = self.saved.get(seen.number)
        if saved is None:
            saved = self.saved[seen.number] = _Saved(seen, mark)
            self.waiting.append(saved)
        saved.packs.append(position)
        return _Kept(tensor, saved)

    def forward_end(self, mark: int) -> None:
        self._mark(mark)

    def unpack(self, mark: int, kept: _Kept) -> torch.Tensor:
        self._mark(mark)
        if kept.saved is not None:
            kept.saved.unpacks.append(mark)
            if kept.alias._version != kept.version:
                kept.saved.left_alone = "it is written in place after it was saved"
        return kept.alias

    def before_update(self, mark: int) -> None:
        self._mark(mark)
        self.updates.append(mark)

    def after_update(self, mark: int) -> None:
        self._mark(mark)
        self.updates.append(mark)

    def _mark(self, mark: int) -> None:
        self.marks = mark + 1
        self.waiting = [saved for saved in self.waiting if not saved.note_idle(mark)]

    def storages(self) -> list[TracedStorage]:
        """Return all storages of the last step."""
        return [self._storage(seen) for seen in self.numbers.seen]

    def _storage(self, seen: SeenStorage) -> TracedStorage:
        found, writers = self.saved.get(seen.number), tuple(seen.writers)
        if found is None:
            return TracedStorage(seen.number, seen.bytes, seen.address, writers=writers)
        return TracedStorage(
            seen.number,
            seen.bytes,
            seen.address,
            tuple(found.packs),
            found.packed,
            found.idle,
            tuple(found.unpacks),
            writers,
            found.left_alone,
        )


def _record(stepper: Stepper) -> tuple[_Recorder, MemoryRecording]:
    recorder = _Recorder()
    hooks = StepHooks(stepper.workload.model, recorder, stepper.workload.optimizer)
    try:
        memory = record_memory(stepper, hooks)
    finally:
        hooks.detach()
    if not recorder.marks or not recorder.saved:
        raise SwapError("the model's forward saved nothing for a backward; nothing could be moved")
    return recorder, memory


def record_memory(stepper: Stepper, hooks: StepHooks) -> MemoryRecording:
    """Return the memory of a step with an annotation at each mark."""
    if stepper.workload.optimizer is not None:
        # As analyzer.peak does: what is freed but was not seen to be allocated is not counted.
        stepper.workload.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    try:
        with quiet_profiler():
            return record_two_steps(stepper, lambda: setattr(hooks, "annotating", True))
    finally:
        hooks.annotating = False


class _Clock:
    """The handler of a timed step: notes when each mark came, and nothing else."""

    def __init__(self, ops: bool) -> None:
        self.ops = ops
        self.times: list[float] = []
        self.timer: OpTimer | None = None

    def is_busy(self) -> bool:
        return False

    def begin(self) -> TorchDispatchMode | None:
        self.times = [time.perf_counter()]
        self.timer = OpTimer() if self.ops else None
        return self.timer

    def pack(self, mark: int, position: int, tensor: torch.Tensor) -> torch.Tensor:
        self.times.append(time.perf_counter())
        return tensor.detach()

    def forward_end(self, mark: int) -> None:
        self.times.append(time.perf_counter())

    def unpack(self, mark: int, kept: torch.Tensor) -> torch.Tensor:
        self.times.append(time.perf_counter())
        return kept

    def before_update(self, mark: int) -> None:
        self.times.append(time.perf_counter())

    def after_update(self, mark: int) -> None:
        self.times.append(time.perf_counter())


def _time(stepper: Stepper, recorder: _Recorder, steps: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the medians of each event's and of each op's seconds."""
    events, _ = _timed_steps(stepper, False, steps)
    _, ops = _timed_steps(stepper, True, max(steps - 2, 1))
    if any(len(row) != recorder.marks + 1 for row in events):
        found = sorted({len(row) - 1 for row in events} | {recorder.marks})
        raise SwapError(f"the steps differ ({found} marks): a model whose step changes cannot be planned ahead")
    if recorder.tracer is None or any(len(row) != len(recorder.tracer.ops) for row in ops):
        raise SwapError("the steps differ in their ops: a model whose step changes cannot be planned ahead")
    return _medians(events), _medians(ops)


def _timed_steps(stepper: Stepper, ops: bool, steps: int) -> tuple[list[list[float]], list[list[float]]]:
    clock = _Clock(ops)
    hooks = StepHooks(stepper.workload.model, clock, stepper.workload.optimizer)
    found_events, found_ops = [], []
    try:
        for _ in range(steps):
            begin = time.perf_counter()
            stepper.step()
            times = [begin, *clock.times, time.perf_counter()]
            found_events.append([right - left for left, right in pairwise(times)])
            if clock.timer is not None:
                found_ops.append(clock.timer.seconds)
    finally:
        hooks.detach()
    return found_events, found_ops


def _medians(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(statistics.median(column) for column in zip(*rows, strict=True))
