"""budgets-…: a fit for each of many budgets; is the measured peak within, and had the simulator known peak and time?

Rows are held to a bar: `peak_over_budget` is the measured peak over the budget, the worst of all; a budget that is
refused counts with the step's own peak. `peak_error` and `step_error` are medians of |predicted / measured - 1|.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np

from analyzer.errors import HotbenchError
from analyzer.peak import peak_live_bytes
from analyzer.progress import Progress
from analyzer.record import to_plain
from analyzer.workload import Stepper
from benchmarks.contract import Promise
from benchmarks.swap_findings import (
    BAR,
    OVER_BUDGET,
    PEAK_ERROR,
    STEP_ERROR,
    Effort,
    Findings,
    budget_range,
    conditions,
    fresh,
    held_to_bar,
)
from benchmarks.swap_models import CASES as MODELS
from optimizers.swap.fit import fit

PREFIX = "budgets-"
CASES = tuple(f"{PREFIX}{model}" for model in MODELS)
BARS = {OVER_BUDGET: 1.0, PEAK_ERROR: 0.03, STEP_ERROR: 0.10}


@dataclass(frozen=True, slots=True)
class Trial:
    """One budget. peak_bytes: measured again after the fit, by what measures every step. refused: why nothing ran."""

    budget_bytes: int
    peak_bytes: int
    peak_bytes_predicted: float = 0.0
    step_seconds: float = 0.0
    step_seconds_predicted: float = 0.0
    plain_seconds: float = 0.0
    swapped: int = 0
    recomputed: int = 0
    tries: int = 0
    refused: str = ""


def promises() -> tuple[Promise, ...]:
    """Return the rows of a full run."""
    return tuple(Promise(case, BAR, metric) for case in CASES for metric in BARS)


def measure(case: str, effort: Effort, found: Findings, progress: Progress) -> None:
    """Add the rows of a case."""
    model = case.removeprefix(PREFIX)
    low, peak = budget_range(fresh(model))
    trials = []
    for place in range(effort.budgets):
        budget = low + (peak - low) * (place + 1) // (effort.budgets + 1)
        progress(f"{case}: budget {place + 1} of {effort.budgets}", place / effort.budgets)
        trials.append(attempt(model, budget, peak))
    add_rows(case, trials, found)
    found.details[case] = {**conditions(), **summary(trials), "smallest_budget_bytes": low, "peak_bytes": peak}


def attempt(model: str, budget: int, own_peak: int) -> Trial:
    """Return what came of one budget. Nothing of it lives on: what lives in this process counts."""
    workload = fresh(model)
    try:
        with fit(workload, budget) as fitted:
            report = fitted.report
            return Trial(
                budget,
                peak_live_bytes(Stepper(workload)),
                report.predicted_peak.mid,
                report.step_after.median,
                report.predicted_step.mid,
                report.step_before.median,
                len(fitted.plan.swapped),
                len(fitted.plan.recomputed),
                report.tries,
            )
    except HotbenchError as error:
        return Trial(budget, own_peak, refused=str(error))


def add_rows(case: str, trials: list[Trial], found: Findings) -> None:
    """Add the three rows: the worst peak over its budget, with the range of all; median errors with their quartiles."""
    shares = [trial.peak_bytes / trial.budget_bytes for trial in trials]
    row = held_to_bar(Promise(case, BAR, OVER_BUDGET), max(shares), BARS[OVER_BUDGET], min(shares), max(shares))
    found.rows.append(row)
    for metric, values in errors(trials).items():
        low, middle, high = np.percentile(values, (25, 50, 75)).tolist() if values else (1.0, 1.0, 1.0)
        found.rows.append(held_to_bar(Promise(case, BAR, metric), middle, BARS[metric], low, high))


def errors(trials: list[Trial]) -> dict[str, list[float]]:
    """Return how far each prediction was off, as a share of what was measured."""
    ran = [trial for trial in trials if not trial.refused]
    return {
        PEAK_ERROR: [abs(trial.peak_bytes_predicted / trial.peak_bytes - 1) for trial in ran],
        STEP_ERROR: [abs(trial.step_seconds_predicted / trial.step_seconds - 1) for trial in ran],
    }


def summary(trials: list[Trial]) -> dict[str, Any]:
    """Return the figures for readers."""
    found = errors(trials)
    return {
        "budgets": len(trials),
        "kept": sum(trial.peak_bytes <= trial.budget_bytes for trial in trials),
        "refused": sum(bool(trial.refused) for trial in trials),
        "errors": {name: {"median": statistics.median(values), "most": max(values)}
                   for name, values in found.items() if values},
        "trials": to_plain(trials),
    }  # fmt: skip
