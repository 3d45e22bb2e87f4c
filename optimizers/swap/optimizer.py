"""The swap optimizer: a training step within a memory budget, its answers unchanged to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from analyzer.diagnosis.finding import Diagnosis
from analyzer.errors import HotbenchError, RecordError
from analyzer.identity import content_id
from analyzer.measurement import Estimate
from analyzer.progress import Progress, silent
from analyzer.run import Run
from analyzer.workload import Workload
from optimizers.plan import Applied, Options, Plan, Refusal, Target
from optimizers.swap.budget import read_budget
from optimizers.swap.calibration import calibrate_folder
from optimizers.swap.errors import SwapError
from optimizers.swap.fit import ALLOW, Fitted, fit
from optimizers.swap.moves import Recompute
from optimizers.swap.plan import NAME, SwapPlan, plan
from optimizers.swap.plan_file import apply_plan, decode_plan, encode_plan
from optimizers.swap.run_timeline import from_run
from optimizers.swap.swap_file import swap_folder
from optimizers.swap.timeline import Timeline
from optimizers.swap.views import view_of

PLAN_FILE = "swap_plan.json"
VIEW_FILE = "swap_view.json"
MOST_TARGETS = 50


@dataclass(frozen=True)
class SwapOptions(Options):
    """What a user can set."""

    budget: str = field(
        default="60%", metadata={"help": "highest live bytes of a step: 2GiB, or a share of its own peak such as 60%"}
    )
    allow: str = field(default="swap,recompute", metadata={"help": "swap, recompute, or both with a comma between"})
    max_slowdown: float = field(
        default=0.25, metadata={"help": "fraction by which a step may become slower for the memory, such as 0.25"}
    )
    folder: str = field(
        default="", metadata={"help": "folder on a disk to swap to; by default $HOTBENCH_SWAP or a temporary one"}
    )

    compact: bool = field(
        default=False, metadata={"help": "true gives freed memory back to the system at once; it costs page faults"}
    )

    def __post_init__(self) -> None:
        read_budget(self.budget, 1 << 40)
        if not 0.0 <= self.max_slowdown < float("inf"):
            raise HotbenchError(f"swap.max_slowdown={self.max_slowdown} is no fraction; give 0 or more, such as 0.25")
        unknown = [word for word in self.methods if word not in ALLOW]
        if unknown or not self.methods:
            raise HotbenchError(f"swap.allow={self.allow!r}: name {' or '.join(ALLOW)}, or both with a comma between")

    @property
    def methods(self) -> tuple[str, ...]:
        """Return what is allowed, as words."""
        return tuple(word.strip() for word in self.allow.split(",") if word.strip())


class SwapOptimizer:
    """Moves idle activations and optimizer state to disk, or makes them again, until the step keeps the budget."""

    name: ClassVar[str] = NAME
    options: ClassVar[type[Options]] = SwapOptions

    def plan(self, run: Run, diagnosis: Diagnosis, options: Options) -> Plan | Refusal:
        """Return what would be moved, simulated from the run, or why nothing is; applying it traces a step afresh."""
        assert isinstance(options, SwapOptions)
        if not run.training:
            return Refusal(NAME, "the step does not train: it saves nothing for a backward that could be moved")
        if run.device.kind != "cpu":
            return Refusal(NAME, f"this version swaps on the CPU only; the run was captured on {run.device.kind}")
        try:
            budget = read_budget(options.budget, run.memory.peak_bytes)
            found, timeline = _simulated(run, budget, options)
        except SwapError as error:
            return Refusal(NAME, str(error))
        chosen = {"budget": options.budget, "allow": options.allow, "max_slowdown": options.max_slowdown,
                  "folder": options.folder, "compact": options.compact}  # fmt: skip
        targets = () if found is None else tuple(_targets(found, timeline))
        estimate = _estimate(run.memory.peak_bytes, budget, found)
        summary = f"the step's peak goes from {run.memory.peak_bytes:,} to at most {budget:,} bytes"
        return Plan(content_id("plan", [run.id, NAME, chosen]), run.id, NAME, chosen, targets, estimate, summary)

    def apply(self, workload: Workload, plan: Plan, progress: Progress = silent) -> tuple[Workload, Applied] | Refusal:
        """Return the workload, its step within the budget, and the plan that was run; a Refusal where none is."""
        options = SwapOptions(**plan.options)
        try:
            fitted = fit(
                workload,
                options.budget,
                allow=options.methods,
                folder=options.folder or None,
                compact=options.compact,
                progress=progress,
            )
        except SwapError as error:
            return Refusal(NAME, str(error))
        return fitted.workload, Applied(plan, decisions(fitted), blobs(fitted))

    def rebuild(self, workload: Workload, applied: Applied) -> Workload:
        """Apply the same plan to a fresh workload. Raises RecordError where it no longer matches."""
        content = applied.blobs.get(PLAN_FILE)
        if content is None:
            raise RecordError(f"the candidate has no {PLAN_FILE}; optimize the run again")
        try:
            folder = applied.plan.options.get("folder") or None
            apply_plan(decode_plan(content, PLAN_FILE), workload.model, workload.optimizer, folder)
        except SwapError as error:
            raise RecordError(f"the swap plan cannot be applied: {error}") from error
        return workload


def _simulated(run: Run, budget: int, options: SwapOptions) -> tuple[SwapPlan | None, Timeline]:
    timeline = from_run(run)
    tiers = (calibrate_folder(swap_folder(options.folder or None)),) if "swap" in options.methods else ()
    found = plan(timeline, budget, tiers, options.methods)
    return (None if isinstance(found, Refusal) else found), timeline


def _estimate(peak: int, budget: int, found: SwapPlan | None) -> Estimate:
    if found is None:
        asked = max(peak - budget, 0)
        return Estimate(0, asked, asked, "bytes", "what the budget asks for; only a traced step shows whether it works")
    return Estimate(
        max(peak - found.peak.high, 0),
        max(peak - found.peak.mid, 0),
        max(peak - found.peak.low, 0),
        "bytes",
        "simulated from the run; applying it traces a step afresh",
    )


def _targets(found: SwapPlan, timeline: Timeline) -> Iterator[Target]:
    largest = sorted(found.moves, key=lambda move: -timeline.buffers[move.buffer].bytes)
    for move in largest[:MOST_TARGETS]:
        buffer = timeline.buffers[move.buffer]
        how = "made again" if isinstance(move, Recompute) else "moved to disk and back"
        first, last = timeline.events[move.after], timeline.events[move.before]
        size = Estimate(buffer.bytes, buffer.bytes, buffer.bytes, "bytes", "its size")
        title = f"{buffer.category} {how} between {first.name} and {last.name}"
        yield Target(title, (first.op, last.op), size)


def decisions(fitted: Fitted) -> dict[str, Any]:
    """Return, as plain JSON, what was decided and measured."""
    report = fitted.report
    return {
        "budget_bytes": report.budget_bytes,
        "peak_bytes_before": report.peak_bytes_before,
        "peak_bytes_predicted": round(report.predicted_peak.mid),
        "peak_bytes_measured": report.peak_bytes_measured,
        "step_seconds_before": report.step_before.as_dict(),
        "step_seconds_predicted": report.predicted_step.as_dict(),
        "step_seconds_after": report.step_after.as_dict(),
        "swapped": len(fitted.plan.swapped),
        "recomputed": len(fitted.plan.recomputed),
        "tries": report.tries,
        "notes": list(report.notes),
    }


def blobs(fitted: Fitted) -> dict[str, bytes]:
    """Return the plan, and what a page shows of it, by file name."""
    return {PLAN_FILE: encode_plan(fitted.file), VIEW_FILE: view_of(fitted).encode()}
