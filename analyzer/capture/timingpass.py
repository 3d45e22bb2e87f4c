"""The timing pass: steps under the bare profiler, interleaved with steps under none."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch._C._profiler import _EventType, _ExperimentalConfig, _RecordFunctionFast
from torch.profiler import ProfilerActivity, profile

from analyzer.capture.recording import STEP_MARKER, OpEvent, self_nanoseconds
from analyzer.measurement import Measurement, measure_quartiles
from analyzer.progress import Progress
from analyzer.run import StepTime
from analyzer.workload import Stepper

WARM_UP = 3
LEAST_STEPS = 5
MOST_STEPS = 200
PASS_SECONDS = 1.0
BLOCK_SECONDS = 0.02
LONG_STEP_SECONDS = 0.25
LEAST_BLOCKS = 5


@dataclass(frozen=True)
class StepOps:
    """The ops of one step: names and nesting by position, and their self time in nanoseconds."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    self_nanoseconds: tuple[int, ...]


@dataclass(frozen=True)
class TimingPass:
    """What the timing pass measured.

    plain_seconds: wall clock of each unprofiled step.
    overhead:      CPU time of a profiled block of steps over that of the unprofiled block beside it.
    """

    steps: tuple[StepOps, ...]
    plain_seconds: tuple[float, ...]
    overhead: Measurement


def activities(device: str) -> list[ProfilerActivity]:
    """Return what the profiler has to watch for a step on `device`."""
    if device.startswith("cuda"):
        return [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    return [ProfilerActivity.CPU]


def waiter(device: str) -> Callable[[], None]:
    """Return the function that waits for the device: launches alone are no finished step."""
    if device.startswith("cuda"):
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def warm_up(stepper: Stepper, device: str) -> float:
    """Run steps until caches, allocators and optimizer state are there; return the quickest one's seconds."""
    wait = waiter(device)
    quickest = float("inf")
    for _ in range(WARM_UP):
        begin = time.perf_counter()
        stepper.step()
        wait()
        quickest = min(quickest, time.perf_counter() - begin)
    return quickest


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """How many blocks of how many steps; lead_in: an untimed step goes before each block."""

    blocks: int
    steps: int
    lead_in: bool


def plan_blocks(step_seconds: float, steps: int | None) -> BlockPlan:
    """Return a plan for about a second of steps each way, a block long enough for the CPU clock.

    A long step needs no lead-in: what it takes to fill the caches again is little against it.
    """
    short = step_seconds < LONG_STEP_SECONDS
    least = 2 * LEAST_STEPS if short else LEAST_STEPS
    wanted = min(max(round(PASS_SECONDS / step_seconds), least), MOST_STEPS) if steps is None else steps
    in_block = min(max(round(BLOCK_SECONDS / step_seconds), 1), max(wanted // LEAST_BLOCKS, 1))
    return BlockPlan(-(-wanted // in_block), in_block, short)


def run_timing_pass(stepper: Stepper, device: str, plan: BlockPlan, progress: Progress) -> TimingPass:
    """Run pairs of blocks, one under the profiler and one under none, the order changing from pair to pair."""
    wait = waiter(device)
    steps: list[StepOps] = []
    plain: list[float] = []
    ratios: list[float] = []
    for block in range(plan.blocks):
        order = ("plain", "profiled") if block % 2 == 0 else ("profiled", "plain")
        cpu: dict[str, float] = {}
        for kind in order:
            if kind == "plain":
                cpu[kind] = plain_block(stepper, wait, plan, plain)
            else:
                cpu[kind], profiler = profiled_block(stepper, wait, plan, device)
                steps += read_steps(profiler)
        ratios.append(cpu["profiled"] / cpu["plain"])
        progress("timing ops", (block + 1) / plan.blocks)
    return TimingPass(tuple(steps), tuple(plain), measure_quartiles(ratios, "x"))


def plain_block(stepper: Stepper, wait: Callable[[], None], plan: BlockPlan, seconds: list[float]) -> float:
    """Run a block of steps, append their wall-clock seconds and return the CPU seconds of all.

    The lead-in is the same under the profiler: reading a record has just emptied the caches.
    """
    if plan.lead_in:
        stepper.step()
        wait()
    cpu = time.process_time()
    for _ in range(plan.steps):
        begin = time.perf_counter()
        stepper.step()
        wait()
        seconds.append(time.perf_counter() - begin)
    return time.process_time() - cpu


def profiled_block(stepper: Stepper, wait: Callable[[], None], plan: BlockPlan, device: str) -> tuple[float, Any]:
    """Return the CPU seconds of a block of steps under the bare profiler, start and stop excluded, and the profiler."""
    # Correlating every op with the device's own ids costs time in each op, and we never read them.
    configuration = _ExperimentalConfig(disable_external_correlation=True)
    with profile(activities=activities(device), experimental_config=configuration) as profiler:
        if plan.lead_in:
            stepper.step()
            wait()
        cpu = time.process_time()
        for _ in range(plan.steps):
            with _RecordFunctionFast(STEP_MARKER):
                stepper.step()
                wait()
        cpu = time.process_time() - cpu
    return cpu, profiler


def profile_device_steps(stepper: Stepper, device: str) -> Any:
    """Return a finished profiler over a few marked steps, for the device's side of them."""
    return profiled_block(stepper, waiter(device), BlockPlan(1, LEAST_STEPS, lead_in=True), device)[1]


def read_steps(profiler: Any) -> list[StepOps]:
    """Return the ops of each marked step of a finished bare profiler.

    Without Python stacks the profiler's own tree nests ops rightly, and walking it costs a third of sorting by time.
    Ops of other threads belong to the step in whose time they start.
    """
    roots = sorted(profiler.profiler.kineto_results.experimental_event_tree(), key=lambda event: event.start_time_ns)
    markers = [event for event in roots if event.name == STEP_MARKER]
    return [_read_step(marker, roots) for marker in markers]


def _read_step(marker: Any, roots: Sequence[Any]) -> StepOps:
    begin, end, thread = marker.start_time_ns, marker.end_time_ns, marker.start_tid
    others = [event for event in roots if begin <= event.start_time_ns <= end and event.start_tid != thread]
    ranks: dict[int, int] = {}
    for event in others:
        ranks.setdefault(event.start_tid, len(ranks))
    others.sort(key=lambda event: ranks[event.start_tid])
    names: list[str] = []
    parents: list[int] = []
    own: list[int] = []
    pending = [(event, -1) for event in (*reversed(others), *reversed(marker.children))]
    while pending:
        event, parent = pending.pop()
        if event.tag == _EventType.TorchOp:
            duration = event.duration_time_ns
            if parent >= 0:
                own[parent] -= duration
            parents.append(parent)
            parent = len(names)
            names.append(event.name)
            own.append(duration)
        children = event.children
        if children:
            pending += [(child, parent) for child in reversed(children)]
    return StepOps(tuple(names), tuple(parents), tuple(own))


def step_ops(ops: list[OpEvent]) -> StepOps:
    """Return names, parents and self times of one step's ops, thread by thread in order of their first op."""
    order = thread_major(ops)
    own = self_nanoseconds(ops)
    place = {index: position for position, index in enumerate(order)}
    return StepOps(
        names=tuple(ops[index].name for index in order),
        parents=tuple(place.get(ops[index].parent, -1) for index in order),
        self_nanoseconds=tuple(own[index] for index in order),
    )


def thread_major(ops: list[OpEvent]) -> list[int]:
    """Return the ops' indices thread by thread: where threads run side by side, order in time is not stable."""
    ranks: dict[int, int] = {}
    for op in ops:
        ranks.setdefault(op.thread, len(ranks))
    return sorted(range(len(ops)), key=lambda index: (ranks[ops[index].thread], index))


def summarise_steps(seconds: tuple[float, ...]) -> StepTime:
    """Return median, quartiles and upper percentiles of the unprofiled steps."""
    low, median, high, p95, p99 = (float(q) for q in np.percentile(np.asarray(seconds), (25, 50, 75, 95, 99)))
    return StepTime(median, low, high, p95, p99, len(seconds))
