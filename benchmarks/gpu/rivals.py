"""Who a kernel is timed against, made alike: each call on a set of buffers of its own, its result kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.gpu.contest import Rival

Function = Callable[..., Any]


def stream_handle() -> int:
    """Return the handle of torch's current stream, the one being captured where one is; 0 without a device."""
    return int(torch.cuda.current_stream().cuda_stream) if torch.cuda.is_available() else 0


def keeping(function: Function, sets: Sequence[tuple[Any, ...]]) -> Rival:
    """Return a rival that calls the function on each set in turn and keeps each result until that set's next call.

    So it writes to other memory each time, as ours does: no result stays in the cache.
    """
    kept: list[Any] = [None] * len(sets)

    def call(place: int) -> Callable[[], Any]:
        def run() -> Any:
            kept[place] = function(*sets[place])
            return kept[place]

        return run

    return Rival([call(place) for place in range(len(sets))])


def inductor(function: Function, sets: Sequence[tuple[Any, ...]]) -> Rival:
    """Return the function compiled by Inductor for these shapes. It raises what Inductor raises, when it is built."""
    torch._dynamo.reset()
    rival = keeping(torch.compile(function, dynamic=False), sets)
    rival.calls[0]()
    return rival


def copying(sources: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> Rival:
    """Return a rival that copies each source to its target, on the device."""

    def call(source: torch.Tensor, target: torch.Tensor) -> Callable[[], torch.Tensor]:
        return lambda: target.copy_(source)

    return Rival([call(source, target) for source, target in zip(sources, targets, strict=True)])


def launching(launch: Callable[..., object], sets: Sequence[tuple[torch.Tensor, ...]], result: int = -1) -> Rival:
    """Return our own rival: `launch(addresses, stream)` on each set; its result is the set's tensor number `result`."""

    def call(tensors: tuple[torch.Tensor, ...]) -> Callable[[], torch.Tensor]:
        addresses = tuple(tensor.data_ptr() for tensor in tensors)

        def run() -> torch.Tensor:
            launch(addresses, stream_handle())
            return tensors[result]

        return run

    return Rival([call(tensors) for tensors in sets])
