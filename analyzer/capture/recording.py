"""What the profiler recorded, as plain values: ops, module calls and allocator events, nested by time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch._C._profiler import _EventType

MARKER_PREFIX = "hotbench::"
STEP_MARKER = "hotbench::step"
LINE_MARKER = "hotbench::line:"


@dataclass(frozen=True, slots=True)
class OpEvent:
    """One recorded op or annotation; times in nanoseconds, `parent` is the innermost op around it (-1: none).

    storages: address of the memory behind each input tensor, tensor lists flattened; () unless shapes were recorded.
    """

    name: str
    start: int
    end: int
    thread: int
    correlation: int
    parent: int = -1
    storages: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """One call of a module; `module` is the id() of the torch.nn.Module."""

    start: int
    end: int
    thread: int
    module: int


@dataclass(frozen=True, slots=True)
class AllocatorEvent:
    """One allocation (bytes > 0) or release (bytes < 0) at `address`."""

    time: int
    thread: int
    address: int
    bytes: int
    device: str


@dataclass(frozen=True, slots=True)
class Recording:
    """One profiled window. Ops in order of start, markers of our own left out; `steps` are the marked windows."""

    ops: tuple[OpEvent, ...]
    steps: tuple[tuple[int, int], ...]
    lines: tuple[OpEvent, ...] = ()
    modules: tuple[ModuleCall, ...] = ()
    allocations: tuple[AllocatorEvent, ...] = ()


@dataclass(slots=True)
class _Collected:
    ops: list[OpEvent] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    lines: list[OpEvent] = field(default_factory=list)
    modules: list[ModuleCall] = field(default_factory=list)
    allocations: list[AllocatorEvent] = field(default_factory=list)


def read_recording(profiler: Any) -> Recording:
    """Return what a finished `torch.profiler.profile` recorded.

    Nesting is found from the times alone: with Python stacks recorded, the profiler's own tree hangs optimizer ops
    under the built-in function that opened their range.
    """
    collected = _Collected()
    for event in _walk(profiler.profiler.kineto_results.experimental_event_tree()):
        _collect(event, collected)
    ops = nest(collected.ops)
    return Recording(
        ops=tuple(ops),
        steps=tuple(sorted(collected.steps)),
        lines=tuple(sorted(collected.lines, key=_start)),
        modules=tuple(sorted(collected.modules, key=lambda call: call.start)),
        allocations=tuple(sorted(collected.allocations, key=lambda event: event.time)),
    )


def nest(ops: Iterable[OpEvent]) -> list[OpEvent]:
    """Return the ops in order of start, each with the index of the innermost op of its thread around it."""
    ordered = sorted(ops, key=_start)
    open_ops: dict[int, list[int]] = {}
    nested: list[OpEvent] = []
    for index, op in enumerate(ordered):
        stack = open_ops.setdefault(op.thread, [])
        while stack and ordered[stack[-1]].end < op.end:
            stack.pop()
        parent = stack[-1] if stack else -1
        nested.append(OpEvent(op.name, op.start, op.end, op.thread, op.correlation, parent, op.storages))
        stack.append(index)
    return nested


def self_nanoseconds(ops: Sequence[OpEvent]) -> list[int]:
    """Return, for each op, its duration less that of its children."""
    own = [op.end - op.start for op in ops]
    for op in ops:
        if op.parent >= 0:
            own[op.parent] -= op.end - op.start
    return own


def _start(op: OpEvent) -> tuple[int, int]:
    # Correlation ids are given in order of start, so they put a parent before a child that starts in the same tick.
    return op.start, op.correlation


def _walk(roots: Iterable[Any]) -> Iterator[Any]:
    pending = list(roots)
    while pending:
        event = pending.pop()
        yield event
        pending.extend(event.children)


def _collect(event: Any, into: _Collected) -> None:
    kind = event.tag
    if kind == _EventType.TorchOp:
        _collect_op(event, into)
    elif kind == _EventType.Allocation:
        fields = event.extra_fields
        into.allocations.append(
            AllocatorEvent(event.start_time_ns, event.start_tid, fields.ptr, fields.alloc_size, str(fields.device))
        )
    elif kind == _EventType.PyCall and event.extra_fields.module is not None:
        module = event.extra_fields.module.self_ptr
        into.modules.append(ModuleCall(event.start_time_ns, event.end_time_ns, event.start_tid, module))


def _collect_op(event: Any, into: _Collected) -> None:
    name, start, end = event.name, event.start_time_ns, event.end_time_ns
    if name == STEP_MARKER:
        into.steps.append((start, end))
        return
    op = OpEvent(name, start, end, event.start_tid, event.correlation_id, -1, _storages(event.extra_fields.inputs))
    (into.lines if name.startswith(LINE_MARKER) else into.ops).append(op)


def _storages(inputs: Sequence[Any]) -> tuple[int, ...]:
    found: list[int] = []
    for value in inputs:
        for item in value if isinstance(value, list) else (value,):
            if hasattr(item, "storage_data_ptr"):
                found.append(item.storage_data_ptr or 0)
    return tuple(found)
