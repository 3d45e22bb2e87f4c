"""Checks our recorder against torch's profiler on a step that is known: `python -m analyzer.capture.recordercheck`.

It runs in a process of its own, since a torch whose insides are not as we read them could end it: the recorder is
used where this check has passed with the same versions. It prints one line of JSON: the reason, "" where all agrees,
and whether it will be so the next time (`lasting`): the clock's check can fail because the machine is busy.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch

from analyzer.capture.blocks import BlockPlan
from analyzer.capture.oprecorder import Halving, RecorderError, op_recorder
from analyzer.capture.profilerrecorder import ProfilerRecorder
from analyzer.capture.quiet import quiet_profiler
from analyzer.capture.stepops import StepOps
from analyzer.workload import Stepper, Workload

STEPS = 8
PRODUCT = 768
TRIES = 5
# A product of this size takes milliseconds, the clock's own calls microseconds: more apart means a wrong unit.
MOST_APART = 1.25


class _Chain(torch.nn.Module):
    """Nested and in-place ops, a range of the user's own, enough of each that a step can be recorded by halves."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for turn in range(12):
            with torch.profiler.record_function(f"turn {turn}"):
                x = torch.nn.functional.linear(x, self.weight).softmax(dim=-1)
            x = (x + x[:, :1]).clone().mul_(0.5)
        return x


def check() -> str:
    """Return in what our recorder and torch's profiler differ; "" where they agree."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = _Chain()
    workload = Workload(
        model=model,
        inputs=lambda seed: ((torch.randn(4, 8),), {}),
        loss=lambda output, batch: output.square().sum(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )
    stepper = Stepper(workload)
    plan = BlockPlan(1, STEPS, lead_in=True)
    with quiet_profiler():
        stepper.step()
        theirs = ProfilerRecorder("cpu").block(stepper, plan).steps
        try:
            ours, halves = _recorded(stepper, plan, None), _recorded(stepper, plan, Halving(0.0, 1, STEPS))
            return _difference(theirs[-1], ours) or _difference_of_halves(theirs[-1], halves)
        except RecorderError as error:
            return str(error)


def _recorded(stepper: Stepper, plan: BlockPlan, halving: Halving | None) -> tuple[StepOps, ...]:
    with op_recorder(halving) as recorder:
        return recorder.block(stepper, recorder.prepare(stepper, plan)).steps


def _difference(theirs: StepOps, ours: tuple[StepOps, ...]) -> str:
    if len(ours) != STEPS:
        return f"{len(ours)} of {STEPS} steps were recorded"
    for step in ours:
        if step.names != theirs.names:
            return f"the names of {len(step.names)} ops differ from those of the profiler's {len(theirs.names)}"
        if step.parents != theirs.parents:
            return "ops are nested in another way than in the profiler's record"
        if any(own is None or own < 0 for own in step.self_nanoseconds):
            return "an op has no time"
    return ""


def _difference_of_halves(theirs: StepOps, halves: tuple[StepOps, ...]) -> str:
    if len(halves) != STEPS or any(step.names != theirs.names for step in halves):
        return "halves of steps don't fit the whole one"
    known = [[own is not None for own in step.self_nanoseconds] for step in halves]
    for first, second in zip(known[0::2], known[1::2], strict=True):
        if not 0.3 < sum(first) / len(first) < 0.6 or not first[0]:
            return f"a first half of a step holds {sum(first)} of {len(first)} ops"
        if second != sorted(second):
            return "a second half of a step is not its end"
    return "" if any(any(second) for second in known[1::2]) else "no second half of a step holds any op"


def check_clock() -> str:
    """Return a line where a long op takes another time by our clock than by Python's, in each of some tries."""
    left = torch.randn(PRODUCT, PRODUCT)
    apart = float("inf")
    for _ in range(TRIES):
        seconds: list[float] = []

        def product(seconds: list[float] = seconds) -> Any:
            begin = time.perf_counter()
            result = left @ left
            seconds.append(time.perf_counter() - begin)
            return result

        stepper = Stepper(Workload(model=_Call(product), inputs=(torch.zeros(1),)))
        step = _recorded(stepper, BlockPlan(1, 1, lead_in=True), None)[0]
        apart = min(apart, seconds[-1] * 1e9 / sum(own or 0.0 for own in step.self_nanoseconds))
        if 1.0 <= apart <= MOST_APART:
            return ""
    return f"a product took {apart:.2f} times as long by Python's clock"


class _Call(torch.nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function()


def main() -> int:
    """Print what was found."""
    reason = check()
    found = {"reason": reason, "lasting": True} if reason else {"reason": check_clock(), "lasting": False}
    if not found["reason"]:
        found["lasting"] = True
    print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
