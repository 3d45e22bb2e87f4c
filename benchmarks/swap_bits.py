"""bits-…: the parameters after many optimizer steps, dropout on, with and without a swap: equal bytes (ours) of all.

The budget is close to the smallest that works, so nearly all that can move does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from analyzer.errors import HotbenchError
from analyzer.progress import Progress
from analyzer.workload import Stepper, Workload, prepare, seed_everything
from benchmarks.contract import Promise, Ratio, Row
from benchmarks.swap_findings import EQUAL_BYTES, NONE, Effort, Findings, budget_range, conditions
from benchmarks.swap_models import cnn, lstm
from examples.transformer import training as transformer
from optimizers.swap.fit import fit

PREFIX = "bits-"
MODELS: dict[str, Callable[[], Workload]] = {"transformer": transformer, "cnn": cnn, "lstm": lstm}
"""The transformer is the one of examples/transformer.py."""
CASES = tuple(f"{PREFIX}{model}" for model in MODELS)
ABOVE_SMALLEST = 10
"""The budget lies 1 / ABOVE_SMALLEST of the way from the smallest one to the step's own peak."""


def promises() -> tuple[Promise, ...]:
    """Return the rows of a full run."""
    return tuple(Promise(case, NONE, EQUAL_BYTES) for case in CASES)


def measure(case: str, effort: Effort, found: Findings, progress: Progress) -> None:
    """Add the row of a case; a budget that is refused has no equal bytes."""
    model = case.removeprefix(PREFIX)
    progress(f"{case}: without a plan", 0.1)
    plain = weights_after(_fresh(model), effort.steps)
    low, peak = budget_range(_fresh(model))
    budget = low + (peak - low) // ABOVE_SMALLEST
    facts: dict[str, Any] = {"steps": effort.steps, "budget_bytes": budget, "own_peak_bytes": peak}
    progress(f"{case}: with a plan", 0.5)
    workload = _fresh(model)
    equal = 0
    try:
        with fit(workload, budget) as fitted:
            equal = int(np.count_nonzero(weights_after(workload, effort.steps) == plain))
            facts |= {"swapped": len(fitted.plan.swapped), "recomputed": len(fitted.plan.recomputed),
                      "peak_bytes": fitted.report.peak_bytes_measured}  # fmt: skip
            if fitted.engine.drifted or fitted.engine.trouble:
                facts["trouble"] = fitted.engine.trouble or "the steps were not the planned ones"
    except HotbenchError as error:
        facts["refused"] = str(error)
    share = equal / plain.size
    found.rows.append(Row(case, 1, NONE, EQUAL_BYTES, equal, plain.size, Ratio(share, share, share)))
    found.details[case] = {**conditions(), **facts}


def _fresh(model: str) -> Workload:
    seed_everything(0)
    workload = MODELS[model]()
    prepare(workload)
    return workload


def weights_after(workload: Workload, steps: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Return the bytes of all parameters after steps from a fixed random state, on other inputs each time."""
    seed_everything(7)
    stepper = Stepper(workload)
    for seed in range(steps):
        stepper.redraw(seed)
        stepper.step()
    content = b"".join(tensor.detach().numpy().tobytes() for tensor in workload.model.parameters())
    return np.frombuffer(content, dtype=np.uint8)
