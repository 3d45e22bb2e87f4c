"""What the timing pass costs: CPU time of a step under it, against the same step under nothing and torch's profiler.

Ratios are peer / ours: 0.95 against `unprofiled` means that a step takes 5 % more CPU time while ops are being timed.
Where ops are many and small, a step of the timing pass records a half of them; the second metric is that of steps all
of whose ops are recorded.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import profile

from analyzer.capture.blocks import BlockPlan, StepRecorder, plain_block, waiter, warm_up
from analyzer.capture.oprecorder import op_recorder
from analyzer.capture.profilerrecorder import ProfilerRecorder, activities
from analyzer.capture.quiet import quiet_profiler
from analyzer.capture.recorderchoice import why_not_ours
from analyzer.errors import WorkloadError
from analyzer.progress import Progress, part
from analyzer.workload import Stepper, load_workload
from benchmarks.command import main
from benchmarks.contract import Benchmark, Missing, Outcome, Promise, Row, Settings, interleave, row_of_samples

EXAMPLES = Path(__file__).parent.parent / "examples"
CASES = (
    "lstm.py:workload",
    "lstm.py:training",
    "gru_variant.py:workload",
    "transformer.py:encoder",
    "transformer.py:training",
    "cnn.py:workload",
    "minilm.py:workload",
)
QUICK = ("lstm.py:workload", "transformer.py:encoder", "cnn.py:workload")
METRIC = "cpu-seconds-per-step"
WHOLE_METRIC = "cpu-seconds-per-wholly-recorded-step"
UNPROFILED = "unprofiled"
BARE = "torch-profiler-bare"
ALL_FLAGS = "torch-profiler-all-flags"
ROWS = ((UNPROFILED, METRIC), (BARE, METRIC), (ALL_FLAGS, METRIC), (UNPROFILED, WHOLE_METRIC))
THREADS = 1
BLOCK_SECONDS = 0.05
ROUNDS, QUICK_ROUNDS = 31, 9


def measure(settings: Settings) -> Outcome:
    """Return the rows of each example."""
    cases = QUICK if settings.quick else CASES
    rounds = QUICK_ROUNDS if settings.quick else ROUNDS
    torch.set_num_threads(THREADS)
    rows: list[Row] = []
    missing: list[Missing] = []
    for place, case in enumerate(cases):
        progress = part(settings.progress, place / len(cases), (place + 1) / len(cases))
        try:
            rows += measure_case(case, rounds, progress)
        except WorkloadError as error:
            missing.append(Missing(case, str(error)))
    return Outcome(tuple(rows), tuple(missing))


def measure_case(case: str, rounds: int, progress: Progress) -> list[Row]:
    """Return the rows of one example; the kinds of step are run in turns."""
    workload, _ = load_workload(str(EXAMPLES / case))
    stepper = Stepper(workload)
    device = workload.device or "cpu"
    plan = BlockPlan(rounds, max(round(BLOCK_SECONDS / warm_up(stepper, device)), 2), lead_in=True)
    with quiet_profiler(), recorders(device) as (ours, whole):
        for recorder in (ours, whole):
            recorder.prepare(stepper, plan)
        samples = interleave(
            kinds_of_step(stepper, device, plan, ours, whole),
            rounds,
            progress=lambda stage, fraction: progress(case, fraction),
        )
    mine = {METRIC: samples["ours"], WHOLE_METRIC: samples["whole"]}
    return [row_of_samples(Promise(case, peer, metric), THREADS, mine[metric], samples[peer]) for peer, metric in ROWS]


@contextmanager
def recorders(device: str) -> Iterator[tuple[StepRecorder, StepRecorder]]:
    """Yield the timing pass's recorder and the same without halves; where ours can't be used torch's profiler twice."""
    if device.startswith("cuda") or why_not_ours():
        yield ProfilerRecorder(device), ProfilerRecorder(device)
        return
    with op_recorder() as ours:
        yield ours, ours.wholly()


def kinds_of_step(
    stepper: Stepper, device: str, plan: BlockPlan, ours: StepRecorder, whole: StepRecorder
) -> dict[str, Callable[[], float]]:
    """Return for each kind a function that runs a block of such steps and returns the CPU seconds of one."""
    wait = waiter(device)
    bare = ProfilerRecorder(device)
    return {
        "ours": lambda: ours.block(stepper, plan).cpu_seconds / plan.steps,
        "whole": lambda: whole.block(stepper, plan).cpu_seconds / plan.steps,
        UNPROFILED: lambda: plain_block(stepper, wait, plan, []) / plan.steps,
        BARE: lambda: bare.block(stepper, plan).cpu_seconds / plan.steps,
        ALL_FLAGS: lambda: all_flags_block(stepper, wait, plan, device) / plan.steps,
    }


def all_flags_block(stepper: Stepper, wait: Callable[[], None], plan: BlockPlan, device: str) -> float:
    """Return the CPU seconds of a block of steps with shapes, memory, stacks and modules recorded."""
    with profile(
        activities=activities(device), record_shapes=True, profile_memory=True, with_stack=True, with_modules=True
    ):
        stepper.step()
        wait()
        begin = time.process_time()
        for _ in range(plan.steps):
            stepper.step()
            wait()
        return time.process_time() - begin


BENCHMARK = Benchmark(
    "capture",
    tuple(Promise(case, peer, metric) for case in CASES for peer, metric in ROWS),
    measure,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
