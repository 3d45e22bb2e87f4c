"""What the timing pass costs: CPU time of a step under it, against the same step under no profiler and under all flags.

Ratios are peer / ours: 0.95 against `unprofiled` means that a step takes 5 % more CPU time while ops are being timed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import profile

from analyzer.capture.quiet import quiet_profiler
from analyzer.capture.timingpass import BlockPlan, activities, plain_block, profiled_block, waiter, warm_up
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
UNPROFILED = "unprofiled"
ALL_FLAGS = "torch-profiler-all-flags"
THREADS = 1
BLOCK_SECONDS = 0.05
ROUNDS, QUICK_ROUNDS = 31, 9


def measure(settings: Settings) -> Outcome:
    """Return a row for each example and peer."""
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
    """Return both rows of one example; the three kinds of step are run in turns."""
    workload, _ = load_workload(str(EXAMPLES / case))
    stepper = Stepper(workload)
    device = workload.device or "cpu"
    plan = BlockPlan(rounds, max(round(BLOCK_SECONDS / warm_up(stepper, device)), 1), lead_in=True)
    wait = waiter(device)
    kinds: dict[str, Callable[[], float]] = {
        "ours": lambda: profiled_block(stepper, wait, plan, device)[0] / plan.steps,
        UNPROFILED: lambda: plain_block(stepper, wait, plan, []) / plan.steps,
        ALL_FLAGS: lambda: all_flags_block(stepper, wait, plan, device) / plan.steps,
    }
    with quiet_profiler():
        samples = interleave(kinds, rounds, progress=lambda stage, fraction: progress(case, fraction))
    return [
        row_of_samples(Promise(case, peer, METRIC), THREADS, samples["ours"], samples[peer])
        for peer in (UNPROFILED, ALL_FLAGS)
    ]


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
    tuple(Promise(case, peer, METRIC) for case in CASES for peer in (UNPROFILED, ALL_FLAGS)),
    measure,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
