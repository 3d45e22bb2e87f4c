"""Part: what one launch of a small kernel costs, inside and outside of a CUDA graph, ours and torch's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch

from benchmarks.gpu import stopwatch
from benchmarks.gpu.contest import MICROSECONDS, OURS, require_device
from benchmarks.gpu.findings import Figure, Found
from benchmarks.gpu.part import Task
from benchmarks.gpu.rivals import stream_handle
from kernels.pointwise import Launcher
from tests.cuda import pointwise_cases

ELEMENTS = 1024
LAUNCHES = 200
ROUNDS = 21
EAGER = "eager"

Call = Callable[[], object]


def tasks(argument: str) -> list[Task]:
    """Return the part's tasks."""
    return [Task("outside-graph", outside_graph), Task("inside-graph", inside_graph)]


def calls(device: str) -> dict[str, Call]:
    """Return what launches one small gelu: ours given tensors, ours given addresses, and torch's."""
    x, out = torch.randn(ELEMENTS, device=device), torch.empty(ELEMENTS, device=device)
    launcher = Launcher(pointwise_cases.gelu(ELEMENTS))
    addresses = (x.data_ptr(), out.data_ptr())
    return {
        OURS: lambda: launcher.launch((x, out), stream_handle()),
        "ours-by-address": lambda: launcher.launch(addresses, stream_handle()),
        EAGER: lambda: torch.nn.functional.gelu(x),
    }


def outside_graph() -> Found:
    """Return the host's seconds for one launch: what the caller waits, not the device."""
    require_device()
    samplers = {name: _host_sampler(call) for name, call in calls("cuda").items()}
    return found("launch-outside-graph", stopwatch.sample_in_turns(samplers, ROUNDS), "host time of a launch")


def _host_sampler(call: Call) -> Callable[[], float]:
    def sample() -> float:
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(LAUNCHES):
            call()
        seconds = time.perf_counter() - begin
        torch.cuda.synchronize()
        return seconds / LAUNCHES

    return sample


def inside_graph() -> Found:
    """Return the device's seconds for one launch of a graph of many, the small kernel itself included."""
    require_device()
    samplers = {name: stopwatch.graph_sampler([call]) for name, call in calls("cuda").items()}
    return found(
        "launch-inside-graph",
        stopwatch.sample_in_turns(samplers, ROUNDS),
        "device time of a launch and its kernel, in a graph",
    )


def found(case: str, samples: Mapping[str, Sequence[float]], what: str) -> Found:
    """Return the figures: ours, given tensors, against each of the others."""
    ours = stopwatch.scaled(stopwatch.spread_of(samples[OURS]), 1e6)
    figures = [
        Figure(
            case,
            name,
            MICROSECONDS,
            ours,
            stopwatch.scaled(stopwatch.spread_of(values), 1e6),
            stopwatch.ratio_of(values, samples[OURS]),
        )
        for name, values in samples.items()
        if name != OURS
    ]
    return Found(f"{what}: {ours.median:.2f} us", tuple(figures))
