"""One capture: warm up, time, record, assemble."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch

from analyzer.capture.assembly import assemble
from analyzer.capture.collector import without_collector
from analyzer.capture.devicesamples import Reader, Sampler, nvml_reader
from analyzer.capture.devicework import DeviceStep, read_device_steps
from analyzer.capture.graphpass import run_graph_pass
from analyzer.capture.quiet import quiet_profiler
from analyzer.capture.timingpass import (
    LEAST_STEPS,
    TimingPass,
    plan_blocks,
    profile_device_steps,
    run_timing_pass,
    summarise_steps,
    warm_up,
)
from analyzer.device import describe_device, describe_environment
from analyzer.errors import WorkloadError
from analyzer.progress import Progress, part, silent
from analyzer.run import Run, with_content_id
from analyzer.workload import Stepper, Workload, WorkloadReference, items_per_step

MOST_OVERHEAD = 1.1


def capture(
    workload: Workload,
    reference: WorkloadReference,
    *,
    steps: int | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> Run:
    """Return what was measured and recorded of `workload`, which is stepped, so trained, meanwhile.

    steps: steps under the profiler, and as many under none; None takes about a second of each, at least 10.
    threads: intra-op threads meanwhile; None keeps the setting.
    Raises WorkloadError where the workload's step or inputs do.
    """
    if steps is not None and steps < 1:
        raise WorkloadError(f"steps is {steps}; take at least 1, better 5 or more")
    if threads is not None and threads < 1:
        raise WorkloadError(f"threads is {threads}; take at least 1")
    device = workload.device or "cpu"
    with _threads(threads):
        progress("describing the machine", 0.0)
        machine, environment = describe_device(device), describe_environment()
        stepper = Stepper(workload, reference.seed)
        progress("warming up", 0.05)
        blocks, in_block = plan_blocks(warm_up(stepper, device), steps)
        sampler = Sampler()
        with quiet_profiler():
            with _device_reader(device) as reader, sampler.running(reader):
                timing = run_timing_pass(stepper, device, blocks, in_block, part(progress, 0.1, 0.6))
            progress("recording the graph", 0.6)
            recorded = run_graph_pass(stepper, device, Path(reference.path).parent)
            device_steps = record_device_steps(stepper, device)
        progress("building the graph", 0.8)
        with without_collector():
            result = assemble(recorded, timing.steps, device_steps, device)
        step_seconds = summarise_steps(timing.plain_seconds)
        run = Run(
            id="",
            name=reference.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            workload=reference,
            training=workload.training,
            device=machine,
            environment=environment,
            threads=torch.get_num_threads(),
            step_seconds=step_seconds,
            throughput=items_per_step(stepper.batch) / step_seconds.median,
            overhead=timing.overhead,
            graph=result.graph,
            memory=result.memory,
            coverage=result.coverage,
            busy_seconds=result.busy_seconds,
            idle_seconds=result.idle_seconds,
            kernels=result.kernels,
            samples=tuple(sampler.samples),
            notes=(*_notes(timing, device, sampler), *result.notes),
        )
    progress("captured", 1.0)
    return with_content_id(run)


def record_device_steps(stepper: Stepper, device: str) -> list[DeviceStep]:
    """Return the device's side of a few steps; none on a CPU."""
    if not device.startswith("cuda"):
        return []
    return read_device_steps(profile_device_steps(stepper, device))


@contextmanager
def _device_reader(device: str) -> Iterator[Reader | None]:
    if not device.startswith("cuda"):
        yield None
        return
    with nvml_reader(torch.device(device).index or 0) as reader:
        yield reader


def _notes(timing: TimingPass, device: str, sampler: Sampler) -> list[str]:
    """Return what the reader of the timings has to know."""
    notes = []
    if len(timing.steps) < LEAST_STEPS:
        notes.append(f"ops were timed over {len(timing.steps)} step(s) only; {LEAST_STEPS} or more give quartiles")
    if timing.overhead.median > MOST_OVERHEAD:
        notes.append(
            f"under the profiler a step took {timing.overhead.median:.2f} times its CPU time: the recording of many "
            "small ops, a part of each op's self time, counts a third of a microsecond an op"
        )
    if device.startswith("cuda") and not sampler.samples:
        notes.append("no readings of the device: the driver's library (NVML) is not to be had")
    return notes


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
