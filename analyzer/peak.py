"""Bytes of a model's state, and the highest live bytes of the allocator in one step."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any

import torch
from torch._C._profiler import _EventType
from torch._subclasses.fake_tensor import FakeTensor
from torch.profiler import ProfilerActivity, profile, record_function

from analyzer.workload import Stepper

SECOND_STEP = "hotbench::second_step"


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


def _peak_on_cpu(stepper: Stepper) -> int:
    # type(), not isinstance: asking lazy proxies for their class makes some of them warn.
    alive = _storage_bytes(item for item in gc.get_objects() if issubclass(type(item), torch.Tensor))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        stepper.step()
        with record_function(SECOND_STEP):
            stepper.step()
    return alive + _highest(_flatten(recorded.profiler.kineto_results.experimental_event_tree()))


def _flatten(events: Iterable[Any]) -> list[Any]:
    waiting, found = list(events), []
    while waiting:
        event = waiting.pop()
        found.append(event)
        waiting += event.children
    return found


def _highest(events: list[Any]) -> int:
    begin = min(event.start_time_ns for event in events if event.name == SECOND_STEP)
    changes = sorted(
        (event.start_time_ns, event.extra_fields.alloc_size) for event in events if event.tag == _EventType.Allocation
    )
    live: int = sum(change for when, change in changes if when < begin)
    highest = live
    for when, change in changes:
        if when >= begin:
            live += change
            highest = max(highest, live)
    return highest


def _storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    sizes: dict[tuple[torch.device, int], int] = {}
    for tensor in tensors:
        if tensor.layout == torch.strided and not isinstance(tensor, FakeTensor):
            storage = tensor.untyped_storage()
            sizes[tensor.device, storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())
