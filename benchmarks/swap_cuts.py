"""MODEL-CUT: the plan cuts the plain step's peak over its base by so many percent; and the front of several cuts.

All variants of a model are timed in turns in one sitting. front-transformer sets our point that is furthest ahead on
both axes beside per-block checkpointing; its details hold every point, those of checkpointing some blocks among them.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from analyzer.capture.quiet import quiet_profiler
from analyzer.errors import HotbenchError
from analyzer.peak import live_tensor_bytes, peak_live_bytes
from analyzer.progress import Progress, part
from analyzer.workload import Stepper, Workload
from benchmarks.contract import Promise, Ratio, Row, interleave, row_of_samples
from benchmarks.contract import timed as timer
from benchmarks.swap_findings import NONE, PEAK, SECONDS, Effort, Findings, conditions, fresh
from benchmarks.swap_peers import PEERS, with_checkpoints
from optimizers.swap.fit import Fitted, fit

CUTS = {"transformer": (50, 60), "cnn": (30,), "lstm": (30,)}
CHECKPOINT = "checkpoint"
FRONT = "front-transformer"
FRONT_CUTS = (20, 40, 50, 60, 70, 75, 80)
FRONT_BLOCKS = (2, 4)
"""Of checkpointing some of the six blocks; all of them is the peer."""
CASES = (*(f"{model}-{cut}" for model, cuts in CUTS.items() for cut in cuts), FRONT)
QUICK_CASE, QUICK_PEERS = "transformer-50", (NONE, CHECKPOINT)
UNFIT = {("lstm", CHECKPOINT), ("lstm", "activation_memory_budget"), ("cnn", "activation_memory_budget")}
"""The LSTM has no blocks; the partitioner is measured on the model that it is made for."""


@dataclass
class Variant:
    """One way to run a model's step."""

    stepper: Stepper
    peak_bytes: int
    base_bytes: int

    @property
    def over_bytes(self) -> int:
        """Return the peak over the base."""
        return self.peak_bytes - self.base_bytes


@dataclass
class Ours:
    """A fitted step. over_bytes: its peak over the plain step's base, measured again after the fit."""

    fitted: Fitted
    stepper: Stepper
    over_bytes: int


def promises() -> tuple[Promise, ...]:
    """Return the rows of a full run."""
    found = [
        Promise(f"{model}-{cut}", peer, metric)
        for model, cuts in CUTS.items()
        for cut in cuts
        for peer in PEERS
        if (model, peer) not in UNFIT
        for metric in (PEAK, SECONDS)
    ]
    return (*found, *(Promise(FRONT, CHECKPOINT, metric) for metric in (PEAK, SECONDS)))


def sittings(cases: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return the models with the cases that are measured in one sitting."""
    found: dict[str, list[str]] = {}
    for case in cases:
        model = "transformer" if case == FRONT else case.rsplit("-", 1)[0]
        found.setdefault(model, []).append(case)
    return list(found.items())


def measure(
    model: str, cases: Sequence[str], peers: Sequence[str], effort: Effort, found: Findings, progress: Progress
) -> None:
    """Add the rows of a model's cases."""
    variants = _others(model, peers, FRONT in cases, found, part(progress, 0.0, 0.2))
    cuts = {int(case.rsplit("-", 1)[1]) for case in cases if case != FRONT}
    wanted = sorted(cuts | (set(FRONT_CUTS) if FRONT in cases else set()))
    fits, refused = _fits(model, wanted, variants[NONE].over_bytes, part(progress, 0.2, 0.6))
    steppers = {f"hotbench-{cut}": item.stepper for cut, item in fits.items()}
    steppers |= {name: item.stepper for name, item in variants.items()}
    steps = {name: timer(stepper.step) for name, stepper in steppers.items()}
    samples = interleave(steps, effort.rounds, progress=part(progress, 0.6, 1.0))
    for case in cases:
        if case != FRONT:
            cut = int(case.rsplit("-", 1)[1])
            if cut in refused:
                found.details[case] = {**conditions(), "refused": refused[cut]}
                continue
            found.rows += _rows(case, fits[cut], samples[f"hotbench-{cut}"], variants, samples, peers)
            found.details[case] = {**conditions(), **_facts(fits[cut], variants[NONE].over_bytes)}
    if FRONT in cases:
        sizes = {f"hotbench-{cut}": item.over_bytes for cut, item in fits.items()}
        sizes |= {name: item.over_bytes for name, item in variants.items()}
        points = {name: (size, samples[name]) for name, size in sizes.items()}
        add_front(points, refused, found)
    for item in fits.values():
        item.fitted.close()


def _others(model: str, peers: Sequence[str], front: bool, found: Findings, progress: Progress) -> dict[str, Variant]:
    """Return the steps to compare with."""
    changes: dict[str, Callable[[Workload], Workload]] = {
        peer: PEERS[peer] for peer in peers if (model, peer) not in UNFIT
    }
    if front:
        changes |= {f"{CHECKPOINT}-{count}": partial(with_checkpoints, blocks=count) for count in FRONT_BLOCKS}
    variants = {}
    for place, (name, change) in enumerate(changes.items()):
        progress(f"{model}: preparing {name}", place / len(changes))
        try:
            variants[name] = _variant(change(fresh(model)))
        except (HotbenchError, RuntimeError) as error:
            found.missing[name] = str(error).splitlines()[0]
    return variants


def _variant(workload: Workload) -> Variant:
    stepper = Stepper(workload)
    for _ in range(2):
        stepper.step()
    if workload.optimizer is not None:
        workload.optimizer.zero_grad(set_to_none=True)
    base = live_tensor_bytes()
    with quiet_profiler():
        return Variant(stepper, peak_live_bytes(stepper), base)


def _fits(model: str, cuts: Sequence[int], over: int, progress: Progress) -> tuple[dict[int, Ours], dict[int, str]]:
    """Return the fitted steps by cut, and why the others were refused."""
    fits: dict[int, Ours] = {}
    refused: dict[int, str] = {}
    for place, cut in enumerate(cuts):
        progress(f"{model}: fitting {cut} % less", place / len(cuts))
        gc.collect()
        workload = fresh(model)
        # The other variants' models live in this process, too: a budget counts them, as it counts all that is live.
        state = 2 * sum(parameter.nbytes for parameter in workload.model.parameters())
        budget = live_tensor_bytes() + state + over * (100 - cut) // 100
        try:
            fitted = fit(workload, budget)
        except HotbenchError as error:
            refused[cut] = str(error)
            continue
        stepper = Stepper(workload)
        with quiet_profiler():
            peak = peak_live_bytes(stepper)
        fits[cut] = Ours(fitted, stepper, peak - (fitted.report.peak_bytes_before - over))
    return fits, refused


def _rows(
    case: str,
    ours: Ours,
    seconds: Sequence[float],
    variants: dict[str, Variant],
    samples: dict[str, tuple[float, ...]],
    peers: Sequence[str],
) -> list[Row]:
    found = []
    for peer in peers:
        if peer in variants:
            found.append(_bytes_row(Promise(case, peer, PEAK), ours.over_bytes, variants[peer].over_bytes))
            found.append(row_of_samples(Promise(case, peer, SECONDS), 1, seconds, samples[peer]))
    return found


def _bytes_row(promise: Promise, ours: int, theirs: int) -> Row:
    ratio = theirs / ours
    return Row(promise.case, 1, promise.peer, promise.metric, ours, theirs, Ratio(ratio, ratio, ratio))


def add_front(points: dict[str, tuple[int, tuple[float, ...]]], refused: dict[int, str], found: Findings) -> None:
    """Add the two rows of our point that is furthest ahead of checkpointing on both axes, and all points as details.

    points: name -> (peak over base in bytes, seconds of steps).
    """
    ours = [name for name in points if name.startswith("hotbench-")]
    if ours and CHECKPOINT in points:
        bytes_there, seconds_there = points[CHECKPOINT]

        def ahead(name: str) -> float:
            size, seconds = points[name]
            return min(bytes_there / size, statistics.median(seconds_there) / statistics.median(seconds))

        size, seconds = points[max(ours, key=ahead)]
        found.rows.append(_bytes_row(Promise(FRONT, CHECKPOINT, PEAK), size, bytes_there))
        found.rows.append(row_of_samples(Promise(FRONT, CHECKPOINT, SECONDS), 1, seconds, seconds_there))
    found.details[FRONT] = {
        **conditions(),
        "points": [{"who": name, PEAK: size, SECONDS: statistics.median(seconds)}
                   for name, (size, seconds) in points.items()],
        "refused": {str(cut): why for cut, why in refused.items()},
    }  # fmt: skip


def _facts(ours: Ours, plain_over: int) -> dict[str, Any]:
    report, plan = ours.fitted.report, ours.fitted.plan
    return {
        "cut": 1 - ours.over_bytes / plain_over,
        "budget_bytes": report.budget_bytes,
        "peak_bytes_predicted": round(report.predicted_peak.mid),
        "peak_bytes_measured": report.peak_bytes_measured,
        "step_seconds_predicted": report.predicted_step.mid,
        "swapped": len(plan.swapped),
        "recomputed": len(plan.recomputed),
        "tries": report.tries,
    }
