"""Records the ops of steps with torch's own profiler: on a GPU, and wherever our recorder can't be used."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from torch._C._profiler import _EventType, _ExperimentalConfig, _RecordFunctionFast
from torch.profiler import ProfilerActivity, profile

from analyzer.capture.blocks import LEAST_STEPS, BlockPlan, RecordedBlock, waiter
from analyzer.capture.recording import STEP_MARKER
from analyzer.capture.stepops import StepOps
from analyzer.workload import Stepper


class ProfilerRecorder:
    """Blocks of steps under the bare profiler."""

    def __init__(self, device: str) -> None:
        self.device = device

    def prepare(self, stepper: Stepper, plan: BlockPlan) -> BlockPlan:
        """Return the plan as it is."""
        return plan

    def block(self, stepper: Stepper, plan: BlockPlan) -> RecordedBlock:
        """Return one block, every op of it timed."""
        cpu_seconds, profiler = profiled_block(stepper, plan, self.device)
        return RecordedBlock(cpu_seconds, tuple(read_steps(profiler)))


def activities(device: str) -> list[ProfilerActivity]:
    """Return what the profiler has to watch for a step on `device`."""
    if device.startswith("cuda"):
        return [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    return [ProfilerActivity.CPU]


def profiled_block(stepper: Stepper, plan: BlockPlan, device: str) -> tuple[float, Any]:
    """Return the CPU seconds of a block of steps under the bare profiler, start and stop excluded, and the profiler."""
    wait = waiter(device)
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
    return profiled_block(stepper, BlockPlan(1, LEAST_STEPS, lead_in=True), device)[1]


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
