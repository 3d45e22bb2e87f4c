"""A transformer's training step held to a memory budget, and the plan applied to a model that was made anew.

python -m examples.fit_budget --budget 70% --plan plan.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

import hotbench
from analyzer.workload import Arguments, Stepper, Workload
from examples.transformer import training
from hotbench import HotbenchError

STEPS, PARTS = 3, 4


def step() -> Workload:
    """Return a training step on 16 sequences; with few, parameters are nearly all of its memory and cannot move."""
    workload = training()

    def batch(seed: int) -> Arguments:
        parts = [workload.batch(seed * PARTS + part)[0] for part in range(PARTS)]
        return tuple(torch.cat(columns) for columns in zip(*parts, strict=True)), {}

    return replace(workload, inputs=batch)


def fit_and_save(budget: str, path: Path) -> str:
    """Return the measured peak and step time before and within the budget; the plan is at `path` then.

    Raises HotbenchError for a budget that cannot be kept, with the smallest that can.
    """
    with hotbench.fit(step(), budget) as fitted:
        report = fitted.report
        fitted.save(path)
    return (
        f"peak {report.peak_bytes_before / 2**20:.1f} MiB -> {report.peak_bytes_measured / 2**20:.1f} MiB, "
        f"step {report.step_before.median * 1e3:.1f} ms -> {report.step_after.median * 1e3:.1f} ms"
    )


def train_with(path: Path) -> float:
    """Return the loss of the last step of a new model that trains by the plan.

    Raises HotbenchError where the plan is damaged or was made for another model.
    """
    workload = step()
    engine = hotbench.apply_plan(path, workload.model, workload.optimizer)
    try:
        stepper = Stepper(workload)
        return [float(stepper.step()) for _ in range(STEPS)][-1]
    finally:
        engine.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 2 for what the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", default="70%", help="bytes, 2GiB, or a share of the step's peak")
    parser.add_argument("--plan", type=Path, default=Path("plan.json"), help="file that the plan goes to")
    options = parser.parse_args(arguments)
    try:
        print(fit_and_save(options.budget, options.plan))
        print(f"loss after {STEPS} steps by the plan: {train_with(options.plan):.4f}")
    except HotbenchError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
