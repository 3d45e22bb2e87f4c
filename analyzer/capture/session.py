"""One capture: warm up, time, record, assemble."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from analyzer.capture.assembly import assemble
from analyzer.capture.blocks import LEAST_STEPS, plan_blocks, warm_up
from analyzer.capture.collector import without_collector
from analyzer.capture.devicesamples import Reader, Sampler, nvml_reader
from analyzer.capture.devicework import DeviceStep, read_device_steps
from analyzer.capture.graphpass import GraphPass, run_graph_pass
from analyzer.capture.profilerrecorder import profile_device_steps
from analyzer.capture.quiet import quiet_profiler
from analyzer.capture.timingpass import TimingPass, run_timing_pass, summarise_steps
from analyzer.device import describe_device, describe_environment
from analyzer.errors import WorkloadError
from analyzer.progress import Progress, part, silent
from analyzer.run import DeviceSample, Run, with_content_id
from analyzer.threads import torch_threads
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

    steps: steps whose ops are recorded, and as many under nothing; None takes about a second of each, at least 5.
    threads: intra-op threads meanwhile; None keeps the setting.
    Raises WorkloadError where the workload's step or inputs do.
    """
    if steps is not None and steps < 1:
        raise WorkloadError(f"steps is {steps}; take at least 1, better 5 or more")
    if threads is not None and threads < 1:
        raise WorkloadError(f"threads is {threads}; take at least 1")
    device = workload.device or "cpu"
    with torch_threads(threads):
        progress("describing the machine", 0.0)
        machine, environment = describe_device(device), describe_environment()
        stepper = Stepper(workload, reference.seed)
        passes = run_passes(stepper, device, steps, Path(reference.path).parent, part(progress, 0.05, 0.8))
        progress("building the graph", 0.8)
        with without_collector():
            assembled = assemble(passes.graph, passes.timing.steps, passes.device_steps, device)
        step_seconds = summarise_steps(passes.timing.plain_seconds)
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
            overhead=passes.timing.overhead,
            graph=assembled.graph,
            memory=assembled.memory,
            coverage=assembled.coverage,
            busy_seconds=assembled.busy_seconds,
            idle_seconds=assembled.idle_seconds,
            kernels=assembled.kernels,
            samples=passes.samples,
            notes=(*_notes(passes, device), *assembled.notes),
        )
    progress("captured", 1.0)
    return with_content_id(run)


@dataclass(frozen=True)
class Passes:
    """What the passes over the workload recorded; device_steps and samples are empty on a CPU."""

    timing: TimingPass
    graph: GraphPass
    device_steps: tuple[DeviceStep, ...]
    samples: tuple[DeviceSample, ...]


def run_passes(stepper: Stepper, device: str, steps: int | None, root: Path, progress: Progress) -> Passes:
    """Return what was recorded of the stepper's steps; root is the folder that source lines are told relative to."""
    progress("warming up", 0.0)
    plan = plan_blocks(warm_up(stepper, device), steps)
    sampler = Sampler()
    with quiet_profiler():
        with _device_reader(device) as reader, sampler.running(reader):
            timing = run_timing_pass(stepper, device, plan, part(progress, 0.1, 0.7))
        progress("recording the graph", 0.7)
        graph = run_graph_pass(stepper, device, root)
        device_steps = record_device_steps(stepper, device)
    return Passes(timing, graph, tuple(device_steps), tuple(sampler.samples))


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


def _notes(passes: Passes, device: str) -> list[str]:
    """Return what the reader of the timings has to know."""
    notes, timing = [], passes.timing
    if len(timing.steps) < LEAST_STEPS:
        notes.append(f"ops were timed over {len(timing.steps)} step(s) only; {LEAST_STEPS} or more give quartiles")
    if any(None in step.self_nanoseconds for step in timing.steps):
        notes.append("ops are many and small: each step of the timing pass recorded about half of them, in turns")
    if timing.overhead.median > MOST_OVERHEAD:
        notes.append(
            f"while its ops were recorded a step took {timing.overhead.median:.2f} times its CPU time: "
            "the recording of each op is part of its caller's self time, and weighs where ops are small"
        )
    if timing.not_ours:
        notes.append(f"ops were timed by torch's profiler, which costs more than our recorder: {timing.not_ours}")
    if device.startswith("cuda") and not passes.samples:
        notes.append("no readings of the device: the driver's library (NVML) is not to be had")
    return notes
