"""Training in less memory: peak over base and seconds a step, swapped by a plan, against the other ways to do it.

Cases are a model and by how many percent the plan cuts the plain step's peak over its base (parameters, optimizer
state, inputs). All variants are timed in turns in one process, on one thread.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from analyzer.capture.quiet import quiet_profiler
from analyzer.errors import HotbenchError
from analyzer.peak import live_tensor_bytes, peak_live_bytes
from analyzer.progress import Progress, part
from analyzer.workload import Stepper, Workload, prepare, seed_everything
from benchmarks.command import main
from benchmarks.contract import Benchmark, Missing, Outcome, Promise, Ratio, Row, Settings, interleave, row_of_samples
from benchmarks.contract import timed as timer
from benchmarks.swap_models import CASES
from benchmarks.swap_peers import PEERS
from optimizers.swap.fit import Fitted, fit

CUTS = {"transformer": (50, 60), "cnn": (30,), "lstm": (30,)}
QUICK_CASE, QUICK_PEERS = "transformer-50", ("none", "checkpoint")
ROUNDS, QUICK_ROUNDS = 9, 3
PEAK, SECONDS = "peak_over_base_bytes", "step_seconds"
UNFIT = {("lstm", "checkpoint"), ("lstm", "activation_memory_budget"), ("cnn", "activation_memory_budget")}
"""The LSTM has no blocks; the partitioner is measured on the model that it is made for."""


@dataclass
class Variant:
    """One way to run a case's step."""

    stepper: Stepper
    peak_bytes: int
    base_bytes: int


def _fresh(model: str) -> Workload:
    seed_everything(0)
    workload = CASES[model]()
    prepare(workload)
    return workload


def _variant(workload: Workload) -> Variant:
    stepper = Stepper(workload)
    for _ in range(2):
        stepper.step()
    if workload.optimizer is not None:
        workload.optimizer.zero_grad(set_to_none=True)
    base = live_tensor_bytes()
    with quiet_profiler():
        return Variant(stepper, peak_live_bytes(stepper), base)


def measure(settings: Settings) -> Outcome:
    """Return all rows; quick: one case against two peers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cases = [QUICK_CASE] if settings.quick else [f"{model}-{cut}" for model, cuts in CUTS.items() for cut in cuts]
    rows: list[Row] = []
    missing: dict[str, str] = {}
    details: dict[str, Any] = {}
    try:
        for place, case in enumerate(cases):
            report = part(settings.progress, place / len(cases), (place + 1) / len(cases))
            found, absent, facts = _measure_case(case, settings.quick, report)
            rows += found
            missing.update(absent)
            details[case] = facts
    finally:
        torch.set_num_threads(threads)
    return Outcome(tuple(rows), tuple(Missing(peer, why) for peer, why in missing.items()), details)


def _measure_case(case: str, quick: bool, progress: Progress) -> tuple[list[Row], dict[str, str], dict[str, Any]]:
    model, cut = case.rsplit("-", 1)
    variants, missing = {}, {}
    for peer in QUICK_PEERS if quick else PEERS:
        if (model, peer) in UNFIT:
            continue
        progress(f"{case}: preparing {peer}", 0.1)
        try:
            variants[peer] = _variant(PEERS[peer](_fresh(model)))
        except (HotbenchError, RuntimeError) as error:
            missing[peer] = str(error).splitlines()[0]
    plain = variants["none"]
    over = plain.peak_bytes - plain.base_bytes
    gc.collect()
    workload = _fresh(model)
    before = live_tensor_bytes()
    progress(f"{case}: fitting", 0.3)
    # The other variants' models live in this process, too: a budget counts them, as it counts all that is live.
    fitted = fit(workload, _budget(workload, before, over, int(cut)))
    ours = _variant(fitted.workload)
    peak = fitted.report.peak_bytes_measured - (fitted.report.peak_bytes_before - over)
    rows = [_bytes_row(Promise(case, peer, PEAK), peak, other) for peer, other in variants.items()]
    rows += _timed_rows(case, ours, variants, QUICK_ROUNDS if quick else ROUNDS, progress)
    facts = _facts(fitted, over, peak)
    fitted.close()
    return rows, missing, facts


def _budget(workload: Workload, live_bytes: int, over: int, cut: int) -> int:
    state = 2 * sum(parameter.nbytes for parameter in workload.model.parameters())
    return live_bytes + state + over * (100 - cut) // 100


def _bytes_row(promise: Promise, ours: int, other: Variant) -> Row:
    theirs = other.peak_bytes - other.base_bytes
    ratio = theirs / ours
    return Row(promise.case, 1, promise.peer, promise.metric, ours, theirs, Ratio(ratio, ratio, ratio))


def _timed_rows(case: str, ours: Variant, variants: dict[str, Variant], rounds: int, progress: Progress) -> list[Row]:
    steps: dict[str, Callable[[], float]] = {name: timer(item.stepper.step) for name, item in variants.items()}
    samples = interleave({"hotbench": timer(ours.stepper.step), **steps}, rounds, progress=part(progress, 0.5, 1.0))
    return [row_of_samples(Promise(case, peer, SECONDS), 1, samples["hotbench"], samples[peer]) for peer in variants]


def _facts(fitted: Fitted, plain_over: int, over: int) -> dict[str, Any]:
    report = fitted.report
    return {
        "cut": 1 - over / plain_over,
        "budget_bytes": report.budget_bytes,
        "peak_bytes_predicted": round(report.predicted_peak.mid),
        "peak_bytes_measured": report.peak_bytes_measured,
        "step_seconds_predicted": report.predicted_step.mid,
        "swapped": len(fitted.plan.swapped),
        "recomputed": len(fitted.plan.recomputed),
        "tries": report.tries,
    }


PROMISES = tuple(
    Promise(f"{model}-{cut}", peer, metric)
    for model, cuts in CUTS.items()
    for cut in cuts
    for peer in PEERS
    if (model, peer) not in UNFIT
    for metric in (PEAK, SECONDS)
)
BENCHMARK = Benchmark("swap", PROMISES, measure)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
