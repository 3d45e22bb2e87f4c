"""Bytes of a model's state, and the highest live bytes of the allocator in one step."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch._C._profiler import _EventType
from torch._subclasses.fake_tensor import FakeTensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.profiler import ProfilerActivity, profile, record_function

from analyzer.workload import Stepper

ANNOTATION = "hotbench::"
SECOND_STEP = f"{ANNOTATION}second_step"
MOST_RECORDINGS = 3


STORED_BYTES = "hotbench_stored_bytes"
"""The attribute by which a model says how many bytes its file takes, where that is not what lies in memory."""


def stored_bytes(model: torch.nn.Module) -> int:
    """Return the bytes that the model says its file takes, else those of its parameters and buffers."""
    told = getattr(model, STORED_BYTES, None)
    return told if isinstance(told, int) else state_bytes(model)


def state_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of parameters and buffers, storage that several share counted once."""
    return _storage_bytes([*model.parameters(), *model.buffers()])


def peak_live_bytes(stepper: Stepper) -> int:
    """Return the highest live bytes of the allocator in one step: everything alive, parameters included.

    On a CPU: the storages alive before, plus the highest sum of what the profiler sees allocated and freed.
    Two steps are recorded and the second counts, since memory freed in a step is often of the step before.
    """
    if stepper.workload.optimizer is not None:
        stepper.workload.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    device = torch.device(stepper.workload.device or "cpu")
    return _peak_on_cuda(stepper, device) if device.type == "cuda" else _peak_on_cpu(stepper)


def _peak_on_cuda(stepper: Stepper, device: torch.device) -> int:
    stepper.step()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    stepper.step()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device))


class AllocatorChange(NamedTuple):
    """Memory handed out (bytes above 0) or taken back on a CPU; nanoseconds on the profiler's clock."""

    nanoseconds: int
    address: int
    bytes: int


@dataclass(frozen=True, slots=True)
class MemoryRecording:
    """The second of two steps: what was live before it, what the allocator did in it, annotations (when, name)."""

    before_bytes: int
    changes: tuple[AllocatorChange, ...]
    annotations: tuple[tuple[int, str], ...]

    @property
    def peak_bytes(self) -> int:
        """Return the highest live bytes."""
        live = highest = self.before_bytes
        for change in self.changes:
            live += change.bytes
            highest = max(highest, live)
        return highest


def _peak_on_cpu(stepper: Stepper) -> int:
    return record_two_steps(stepper).peak_bytes


def record_two_steps(stepper: Stepper, before_second: Callable[[], None] | None = None) -> MemoryRecording:
    """Return the memory of the second of two steps on a CPU; `before_second` is called between them.

    The profiler does not see the release of memory that was handed out while it was off. Where such memory goes in the
    second step, as what a first step leaves to the next one does, both are recorded again: it has seen it by then.
    """
    for _ in range(MOST_RECORDINGS):
        recording, unseen_bytes = _record_two_steps(stepper, before_second)
        if not unseen_bytes:
            break
    return recording


def _record_two_steps(stepper: Stepper, before_second: Callable[[], None] | None) -> tuple[MemoryRecording, int]:
    """Return the second step's memory, and the bytes that went in it without the profiler's knowledge."""
    found = _storages(_live_tensors())
    before = [_Known(storage) for storage in found]
    del found
    gone: set[int] = set()

    def between() -> None:
        gone.update(place for place, known in enumerate(before) if known.is_gone())
        if before_second is not None:
            before_second()

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        stepper.step()
        between()
        with record_function(SECOND_STEP):
            stepper.step()
    events = _flatten(recorded.profiler.kineto_results.experimental_event_tree())
    recording = _recording(before, gone, events)
    released = {change.address for change in recording.changes if change.bytes < 0}
    unseen = [known for place, known in enumerate(before)
              if place not in gone and known.address not in released and known.is_gone()]  # fmt: skip
    return recording, sum(known.bytes for known in unseen)


class _Known:
    """A storage that was there before the recording; it does not hold it."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self.address, self.bytes = storage.data_ptr(), storage.nbytes()
        self._storage = StorageWeakRef(storage)  # type: ignore[no-untyped-call]

    def is_gone(self) -> bool:
        """Return whether it was freed."""
        return bool(self._storage.expired())  # type: ignore[no-untyped-call]


def _flatten(events: Iterable[Any]) -> list[Any]:
    waiting, found = list(events), []
    while waiting:
        event = waiting.pop()
        found.append(event)
        waiting += event.children
    return found


def _recording(known: list[_Known], gone: set[int], events: list[Any]) -> MemoryRecording:
    begin = min(event.start_time_ns for event in events if event.name == SECOND_STEP)
    changes = sorted(
        AllocatorChange(event.start_time_ns, event.extra_fields.ptr, event.extra_fields.alloc_size)
        for event in events
        if event.tag == _EventType.Allocation
    )
    changes = _corrected(changes, {item.address: item.bytes for item in known})
    first = {change.address: change.bytes for change in reversed(changes)}
    # Of what was there before, the profiler sees the release only where an earlier recording saw it handed out.
    alive = sum(item.bytes for place, item in enumerate(known) if place not in gone or first.get(item.address, 0) < 0)
    before = alive + sum(change.bytes for change in changes if change.nanoseconds < begin)
    names = sorted(
        (event.start_time_ns, event.name)
        for event in events
        if event.tag == _EventType.TorchOp and event.start_time_ns >= begin and event.name.startswith(ANNOTATION)
    )
    return MemoryRecording(before, tuple(item for item in changes if item.nanoseconds >= begin), tuple(names))


def _corrected(changes: list[AllocatorChange], known: dict[int, int]) -> list[AllocatorChange]:
    """Return the changes with the sizes of what was there before the recording.

    The profiler remembers sizes by address from earlier recordings; what was handed out there since, while it was off,
    it takes for the old block. What was in no tensor then was not counted, so its release does not count either.
    """
    met, found = set[int](), []
    for change in changes:
        if change.bytes < 0 and change.address not in met:
            change = change._replace(bytes=-known.get(change.address, 0))
        met.add(change.address)
        found.append(change)
    return found


def _storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(storage.nbytes() for storage in _storages(tensors))


def _storages(tensors: Iterable[torch.Tensor]) -> list[torch.UntypedStorage]:
    """Return the storages under the tensors, each once."""
    found: dict[tuple[torch.device, int], torch.UntypedStorage] = {}
    for tensor in tensors:
        if tensor.layout == torch.strided and not isinstance(tensor, FakeTensor):
            storage = tensor.untyped_storage()
            found[tensor.device, storage.data_ptr()] = storage
    return list(found.values())


def live_tensor_bytes() -> int:
    """Return the bytes of the storages under all tensors that Python knows of now, each counted once."""
    gc.collect()
    return _storage_bytes(_live_tensors())


def _live_tensors() -> Iterator[torch.Tensor]:
    """Yield the tensors that Python knows of; each type is asked once, for there are many objects of few types."""
    known: dict[type, bool] = {}
    for item in gc.get_objects():
        # type(), not isinstance: asking lazy proxies for their class makes some of them warn.
        kind = type(item)
        if kind not in known:
            known[kind] = issubclass(kind, torch.Tensor)
        if known[kind]:
            yield item
