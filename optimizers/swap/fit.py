"""`hotbench.fit`: trace a step, calibrate, plan, run, check peak and equality, plan again on a miss."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch

from analyzer.errors import WorkloadError
from analyzer.measurement import Estimate, Measurement, measure_quartiles
from analyzer.progress import Progress, silent
from analyzer.workload import Stepper, Workload
from optimizers.plan import Refusal
from optimizers.swap.budget import read_budget
from optimizers.swap.calibration import calibrate_folder
from optimizers.swap.engine import Engine
from optimizers.swap.errors import SwapError
from optimizers.swap.hooks import refuse_unsupported
from optimizers.swap.itinerary import Itinerary
from optimizers.swap.make_itinerary import make_itinerary, op_to_repeat
from optimizers.swap.moves import Move, Recompute, Swap, Tier
from optimizers.swap.plan import SwapPlan, as_plan, plan
from optimizers.swap.plan_file import PlanFile, apply_plan, encode_plan, model_hash
from optimizers.swap.recipes import GENERATOR_STATE_BYTES
from optimizers.swap.repetition_cost import FREE, RepetitionCost, measure_repetition
from optimizers.swap.snapshot import Snapshot
from optimizers.swap.swap_file import swap_folder
from optimizers.swap.tier import chunk_for, reserve_for
from optimizers.swap.timeline import Timeline
from optimizers.swap.trace import StepTrace, lasting
from optimizers.swap.traced_timeline import TracedTimeline, build_timeline
from optimizers.swap.tracer import by_event, highest_by_event, record_memory, trace_step

TIERS = ("host", "disk")
ALLOW = ("swap", "recompute")
TRIES = 4
CHECKED_STEPS = 2
TIMED_STEPS = 5
Result = TypeVar("Result")


@dataclass(frozen=True)
class FitReport:
    """What a fit found. peak_bytes_before, peak_bytes_measured: highest live bytes of the allocator, measured.

    step_before, step_after: seconds.    tries: plans that were run.    notes: what could not be done, and why.
    """

    budget_bytes: int
    peak_bytes_before: int
    peak_bytes_measured: int
    predicted_peak: Estimate
    predicted_step: Estimate
    step_before: Measurement
    step_after: Measurement
    tries: int
    notes: tuple[str, ...]


class Fitted:
    """A workload whose step keeps the budget, from now on and until `close`. Usable as a context manager."""

    def __init__(
        self, workload: Workload, trace: StepTrace, traced: TracedTimeline, swap_plan: SwapPlan, file: PlanFile,
        report: FitReport, engine: Engine, tiers: tuple[Tier, ...], allow: tuple[str, ...],
        measured_bytes: tuple[int, ...],
    ) -> None:  # fmt: skip
        self.workload, self.trace, self.traced = workload, trace, traced
        self.tiers, self.allow, self.measured_bytes = tiers, allow, measured_bytes
        self.plan, self.file, self.report, self.engine = swap_plan, file, report, engine

    @property
    def model(self) -> torch.nn.Module:
        """Return the model; it is the one that was given."""
        return self.workload.model

    def save(self, path: str | Path) -> Path:
        """Write the plan; `hotbench.apply_plan(path, model, optimizer)` applies it in another process."""
        target = Path(path)
        partial = target.with_name(f".{target.name}.partial")
        try:
            partial.write_bytes(encode_plan(self.file))
            partial.replace(target)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise SwapError(f"cannot write the plan to {target}: {error.strerror}; name another file") from error
        return target

    def close(self) -> None:
        """Take the hooks off: steps run as they did before."""
        self.engine.close()

    def __enter__(self) -> Fitted:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def fit(
    workload_or_model: Workload | torch.nn.Module,
    budget: int | str,
    tiers: Sequence[str] = TIERS,
    allow: Sequence[str] = ALLOW,
    *,
    inputs: Any = None,
    loss: Any = None,
    optimizer: torch.optim.Optimizer | None = None,
    folder: str | Path | None = None,
    compact: bool = False,
    progress: Progress = silent,
) -> Fitted:
    """Return the workload, its training step now within the memory budget, its answers unchanged to the bit.

    budget: bytes, "2GiB", or "60%" of the step's own peak; the whole step's highest live bytes, parameters included.
    tiers:  where tensors may go. On a CPU "host" is where they are, so "disk" is what counts.
    allow:  "swap", "recompute" or both.
    inputs, loss, optimizer: as in a Workload, when a model is given.    folder: where "disk" is.
    compact: give freed memory back to the system at once: the process's resident memory then follows the live bytes,
    for page faults in each step; without it freed memory stays in the process's heap, to be used again.
    Trial steps are run, then model, optimizer and random generators are put back as they were.
    Raises SwapError for a budget that cannot be kept, with the smallest that can, and for what swap does not reach.
    """
    workload = _as_workload(workload_or_model, inputs, loss, optimizer)
    refuse_unsupported(workload.model)
    where = _disk(tiers, allow, folder)
    if not workload.model.training:
        workload.model.train()
    stepper = Stepper(workload)
    snapshot = Snapshot(workload.model, workload.optimizer, where or swap_folder(folder))
    try:
        return _Fitting(stepper, snapshot, where, tuple(allow), compact, progress).run(budget)
    finally:
        snapshot.close()


def _as_workload(given: object, inputs: Any, loss: Any, optimizer: torch.optim.Optimizer | None) -> Workload:
    if isinstance(given, Workload):
        if not given.training:
            raise SwapError("the workload does not train (it has no loss and optimizer); fit is for training steps")
        return given
    if not isinstance(given, torch.nn.Module):
        raise SwapError(f"fit was given a {type(given).__name__}; give a Workload or a torch.nn.Module")
    missing = [name for name, value in (("inputs", inputs), ("loss", loss), ("optimizer", optimizer)) if value is None]
    if missing:
        raise SwapError(f"fit of a model needs {', '.join(missing)}, too: one training step is run to plan from")
    return Workload(model=given, inputs=inputs, loss=loss, optimizer=optimizer)


def _disk(tiers: Sequence[str], allow: Sequence[str], folder: str | Path | None) -> Path | None:
    """Return the folder of the disk tier; None where nothing may be swapped."""
    unknown = [name for name in tiers if name not in TIERS]
    if unknown:
        raise SwapError(f"no tier {unknown[0]!r}; known: {', '.join(TIERS)}")
    unknown = [name for name in allow if name not in ALLOW]
    if unknown or not allow:
        raise SwapError(f"allow={tuple(allow)!r}: name at least one of {', '.join(ALLOW)}, and nothing else")
    if "swap" not in allow:
        return None
    if "disk" not in tiers:
        if tuple(allow) == ("swap",):
            raise SwapError("on a CPU tensors are in host memory already; name the tier disk, or allow recompute")
        return None
    return swap_folder(folder)


class _Fitting:
    """One fit, from the trace to the plan that was run."""

    def __init__(
        self, stepper: Stepper, snapshot: Snapshot, folder: Path | None, allow: tuple[str, ...], compact: bool,
        progress: Progress,
    ) -> None:  # fmt: skip
        self.stepper, self.snapshot, self.folder, self.progress = stepper, snapshot, folder, progress
        self.compact = compact
        self.allow = allow if folder is not None else tuple(word for word in allow if word != "swap")
        self.model, self.optimizer = stepper.workload.model, stepper.workload.optimizer
        self.notes: list[str] = []
        self.measured_bytes: tuple[int, ...] = ()
        self.repetition = FREE

    def run(self, budget: int | str) -> Fitted:
        """Return what fits."""
        try:
            self.progress("tracing a step", 0.0)
            self.trace = trace_step(self.stepper)
            self.progress("measuring the disk", 0.3)
            self.tiers = () if self.folder is None else (calibrate_folder(self.folder),)
            if "recompute" in self.allow:
                self.repetition = measure_repetition()
            self.traced = timeline_of(self.trace, self.tiers, self.allow, self.repetition)
            wanted = read_budget(budget, self.trace.peak_bytes)
            self._time_hooks()
            self.progress("running the plan", 0.4)
            return self._search(wanted)
        finally:
            self.snapshot.restore()

    def _time_hooks(self) -> None:
        """Have the step's events, and the watch over its ops, take what the engine takes with nothing to move."""
        idle = make_itinerary(self.trace, self.traced, (), chunk_for(self.trace.peak_bytes))
        carried = self._seconds(idle).median
        recipe = next(iter(self.traced.recipe_ops.values()), ())
        if recipe and self.trace.ops:
            watching = self._seconds(replace(idle, ops=(op_to_repeat(self.trace, recipe[0]),))).median
            self.repetition = replace(self.repetition, watch_seconds=max(watching - carried, 0.0) / len(self.trace.ops))
        self.trace = lasting(self.trace, carried)
        self.traced = timeline_of(self.trace, self.tiers, self.allow, self.repetition)

    def _search(self, budget: int) -> Fitted:
        expected = self._checksum(None)
        target = budget
        for tries in range(1, TRIES + 1):
            found = self._plan(target, budget)
            itinerary = make_itinerary(self.trace, self.traced, found.moves, chunk_for(self.trace.peak_bytes))
            if not self._gives(expected, itinerary):
                self._give_up_recompute(expected, budget)
                continue
            peak = self._peak(itinerary)
            if peak <= budget:
                return self._finish(budget, found, itinerary, peak, tries)
            target -= peak - budget
        raise self._missed(budget, target)

    def _missed(self, budget: int, target: int) -> SwapError:
        return SwapError(f"no plan kept {budget:,} bytes when it was run; a budget of {2 * budget - target:,} may do")

    def _plan(self, target: int, budget: int) -> SwapPlan:
        if self.trace.peak_bytes <= target:
            return self._as_run((), target)
        found = plan(self.traced.timeline, target, self.tiers, self.allow)
        if isinstance(found, Refusal) and self.allow == ALLOW:
            # What could be made again holds its inputs in memory for longer: with swaps alone less is possible.
            self.allow = ("swap",)
            self.traced = timeline_of(self.trace, self.tiers, self.allow)
            # What was asked for beyond the budget made up for the recomputations' own miss.
            target = budget
            found = plan(self.traced.timeline, target, self.tiers, self.allow)
        if isinstance(found, Refusal):
            if target < budget:
                raise self._missed(budget, target)
            reason = found.reason
            raise SwapError(f"{reason}; the step's own peak is {self.trace.peak_bytes}")
        return self._as_run(found.moves, target)

    def _as_run(self, moves: tuple[Move, ...], target: int) -> SwapPlan:
        """Return the plan with what these moves take themselves, rather than the most that moves could."""
        ops = {op for move in moves if isinstance(move, Recompute)
               for op in self.traced.recipe_ops[move.buffer, move.before]}  # fmt: skip
        used = GENERATOR_STATE_BYTES * sum(self.trace.ops[op].random for op in ops)
        if any(isinstance(move, Swap) for move in moves):
            used += reserve_for(chunk_for(self.trace.peak_bytes))
        timeline = self.traced.timeline
        constant = timeline.constant_bytes - self.traced.reserve_bytes + used
        timeline = replace(timeline, constant_bytes=constant)
        return as_plan(self._watched(timeline) if ops else timeline, moves, self.tiers, target)

    def _watched(self, timeline: Timeline) -> Timeline:
        """Return the timeline with what it takes to look at every op of the forward for those that are repeated."""
        counts = Counter(min(op.mark, len(timeline.events) - 1) for op in self.trace.ops)
        events = [
            replace(event, seconds=event.seconds + self.repetition.watch_seconds * counts[place])
            for place, event in enumerate(timeline.events)
        ]
        return replace(timeline, events=tuple(events))

    def _give_up_recompute(self, expected: str, budget: int) -> None:
        """Go on with swaps alone where they, and only they, give the same answers."""
        if self._checksum(None) != expected:
            raise SwapError("the step gives other results when it is repeated; equality cannot be checked: seed it")
        if self.allow == ("swap",) or "swap" not in self.allow:
            raise SwapError("a step with moved tensors gives other results; it is left as it is")
        self.allow = ("swap",)
        self.traced = timeline_of(self.trace, self.tiers, self.allow)
        self.notes.append("recomputed activations were not the same to the bit: they are swapped instead")

    def _gives(self, expected: str, itinerary: Itinerary) -> bool:
        """Return whether steps with the itinerary end where they end without it."""
        try:
            return self._checksum(itinerary) == expected
        except WorkloadError:
            if itinerary.ops:
                return False
            raise

    def _checksum(self, itinerary: Itinerary | None) -> str:
        """Return a hash of the parameters and buffers after a few steps from the same state."""
        self.snapshot.restore()
        self._with(itinerary, lambda: [self.stepper.step() for _ in range(CHECKED_STEPS)])
        digest = hashlib.sha256()
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            data = tensor.detach().contiguous().reshape(-1)
            digest.update(data.view(torch.uint8).numpy().tobytes() if data.numel() else b"")
        return digest.hexdigest()

    def _peak(self, itinerary: Itinerary) -> int:
        """Return the step's measured peak; its course is kept for the report."""
        engine = self._engine(itinerary)
        try:
            for _ in range(CHECKED_STEPS):
                self.stepper.step()
            recorded = record_memory(self.stepper, engine.hooks)
        finally:
            engine.close()
        if engine.trouble:
            raise SwapError(f"{engine.trouble}; free space in {self.folder}, or name another folder")
        changes = by_event(recorded, self.trace.marks)
        self.measured_bytes = highest_by_event(recorded.before_bytes, changes, self.trace.marks + 1) if changes else ()
        return recorded.peak_bytes

    def _seconds(self, itinerary: Itinerary | None) -> Measurement:
        def measure() -> Measurement:
            self.stepper.step()
            found = []
            for _ in range(TIMED_STEPS):
                begin = time.perf_counter()
                self.stepper.step()
                found.append(time.perf_counter() - begin)
            return measure_quartiles(found, "s")

        return self._with(itinerary, measure)

    def _with(self, itinerary: Itinerary | None, call: Callable[[], Result]) -> Result:
        if itinerary is None:
            return call()
        engine = self._engine(itinerary)
        try:
            return call()
        finally:
            engine.close()

    def _engine(self, itinerary: Itinerary) -> Engine:
        return Engine(self.model, itinerary, self.folder or Path(), self.optimizer, self.compact)

    def _finish(self, budget: int, found: SwapPlan, itinerary: Itinerary, peak: int, tries: int) -> Fitted:
        self.progress("timing", 0.8)
        report = FitReport(
            budget, self.trace.peak_bytes, peak, found.peak, found.step,
            self._seconds(None), self._seconds(itinerary), tries, tuple(self.notes),
        )  # fmt: skip
        file = PlanFile(
            model_hash(self.model), budget, itinerary, self.trace.peak_bytes, round(found.peak.mid), peak,
            torch.__version__, self.compact,
        )  # fmt: skip
        self.snapshot.restore()
        engine = apply_plan(file, self.model, self.optimizer, self.folder)
        return Fitted(
            self.stepper.workload, self.trace, self.traced, found, file, report, engine, self.tiers, self.allow,
            self.measured_bytes,
        )  # fmt: skip


def timeline_of(
    trace: StepTrace, tiers: Sequence[Tier], allow: Sequence[str], repetition: RepetitionCost = FREE
) -> TracedTimeline:
    """Return the trace's timeline, with the memory and the time that moving itself takes."""
    reserve, speed = 0, 0.0
    if tiers and "swap" in allow:
        reserve += reserve_for(chunk_for(trace.peak_bytes))
        speed = 1 / tiers[0].out_bytes_per_second + 1 / tiers[0].in_bytes_per_second
    if "recompute" in allow:
        reserve += GENERATOR_STATE_BYTES * sum(op.random for op in trace.ops)
    return build_timeline(
        trace,
        reserve,
        copy_seconds_per_byte=speed,
        recompute="recompute" in allow,
        op_seconds=repetition.op_seconds,
    )
