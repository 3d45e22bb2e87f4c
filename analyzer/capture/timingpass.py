"""The timing pass: steps whose ops are recorded, interleaved with steps under nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analyzer.capture.blocks import BlockPlan, StepRecorder, plain_block, waiter
from analyzer.capture.oprecorder import RecorderError, op_recorder
from analyzer.capture.profilerrecorder import ProfilerRecorder
from analyzer.capture.recorderchoice import why_not_ours
from analyzer.capture.stepops import StepOps
from analyzer.measurement import Measurement, measure_quartiles
from analyzer.progress import Progress
from analyzer.run import StepTime
from analyzer.workload import Stepper


@dataclass(frozen=True)
class TimingPass:
    """What the timing pass measured.

    plain_seconds: wall clock of each step under nothing.
    overhead:      CPU time of a recorded block of steps over that of the plain block beside it.
    not_ours:      why torch's profiler recorded the ops of a step on a CPU; "" where our own recorder did.
    """

    steps: tuple[StepOps, ...]
    plain_seconds: tuple[float, ...]
    overhead: Measurement
    not_ours: str = ""


def run_timing_pass(stepper: Stepper, device: str, plan: BlockPlan, progress: Progress) -> TimingPass:
    """Return the pass by our own recorder on a CPU where it can be used and loses nothing, else by torch's profiler."""
    not_ours = ""
    if not device.startswith("cuda"):
        not_ours = why_not_ours()
        if not not_ours:
            try:
                with op_recorder() as recorder:
                    return run_blocks(stepper, device, plan, recorder, progress)
            except RecorderError as error:
                not_ours = str(error)
    return run_blocks(stepper, device, plan, ProfilerRecorder(device), progress, not_ours)


def run_blocks(
    stepper: Stepper, device: str, plan: BlockPlan, recorder: StepRecorder, progress: Progress, not_ours: str = ""
) -> TimingPass:
    """Run pairs of blocks, one recorded and one under nothing, the order changing from pair to pair."""
    wait = waiter(device)
    plan = recorder.prepare(stepper, plan)
    steps: list[StepOps] = []
    plain: list[float] = []
    ratios: list[float] = []
    for block in range(plan.blocks):
        order = ("plain", "recorded") if block % 2 == 0 else ("recorded", "plain")
        cpu: dict[str, float] = {}
        for kind in order:
            if kind == "plain":
                cpu[kind] = plain_block(stepper, wait, plan, plain)
            else:
                recorded = recorder.block(stepper, plan)
                cpu[kind] = recorded.cpu_seconds
                steps += recorded.steps
        ratios.append(cpu["recorded"] / cpu["plain"])
        progress("timing ops", (block + 1) / plan.blocks)
    return TimingPass(tuple(steps), tuple(plain), measure_quartiles(ratios, "x"), not_ours)


def summarise_steps(seconds: tuple[float, ...]) -> StepTime:
    """Return median, quartiles and upper percentiles of the plain steps."""
    low, median, high, p95, p99 = (float(q) for q in np.percentile(np.asarray(seconds), (25, 50, 75, 95, 99)))
    return StepTime(median, low, high, p95, p99, len(seconds))
