"""The fusion optimizer: plan from a run, apply to a workload, repeat from what was decided."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from analyzer.diagnosis.finding import Diagnosis
from analyzer.errors import HotbenchError, RecordError
from analyzer.identity import content_id
from analyzer.progress import Progress, silent
from analyzer.run import Run
from analyzer.workload import Workload
from optimizers.fusion.alternatives import two_ways
from optimizers.fusion.api import NAME, Fused, build, fuse_measured, graph_hash, tensors_of
from optimizers.fusion.capture import UnfusableError, capture
from optimizers.fusion.compile_cost import remember
from optimizers.fusion.module import FusedModule
from optimizers.fusion.plan import find_targets, predicted_apply, unsupported_targets
from optimizers.fusion.proof import graph_ops, prove_regions, proven
from optimizers.fusion.proof_record import FILE, Proof, RegionProof, save_proof
from optimizers.fusion.runtime import Runner
from optimizers.plan import Applied, Options, Plan, Refusal


@dataclass(frozen=True)
class FusionOptions(Options):
    """What a user can set."""

    max_error: float | None = field(
        default=None,
        metadata={"help": "accepted max|a-b| / max|b| of the outputs; by default 1e-5 for float32, 1e-10 for float64"},
    )
    min_gain: float = field(
        default=0.0,
        metadata={"help": "part of eager's time that must be saved at least, below 1; below 0 keeps slower ones too"},
    )

    def __post_init__(self) -> None:
        if self.max_error is not None and not self.max_error >= 0.0:
            raise HotbenchError(f"fusion.max_error={self.max_error} accepts nothing; give a number of 0 or more")
        if not self.min_gain < 1.0:
            raise HotbenchError(f"fusion.min_gain={self.min_gain} asks for more than all of the time; give less than 1")


class Fusion:
    """Turns stretches of ops into generated kernels where that is measured to be faster."""

    name: ClassVar[str] = NAME
    options: ClassVar[type[Options]] = FusionOptions

    def plan(self, run: Run, diagnosis: Diagnosis, options: Options) -> Plan | Refusal:
        """Return the stretches of ops that would become kernels, or why none would."""
        assert isinstance(options, FusionOptions)
        if run.device.kind != "cpu":
            where = f"this version plans fusion for runs on the CPU only, and this one is of a {run.device.kind} device"
            return Refusal(NAME, f"{where}; hotbench.optimize(model, inputs) fuses a model there")
        targets, estimate = find_targets(run)
        taken = [target for target in targets if not target.refusal]
        if not taken:
            return Refusal(NAME, "the step has no pointwise op or reduction that one kernel would speed up")
        ops = sum(len(target.ops) for target in taken)
        summary = f"{ops:,} of {sum(1 for _ in run.graph.top_level()):,} ops become part of generated kernels"
        chosen = {"max_error": options.max_error, "min_gain": options.min_gain}
        identity = content_id("plan", [run.id, NAME, chosen, [target.title for target in targets]])
        everything = (*targets, *unsupported_targets(run))
        took = predicted_apply(run, targets)
        return Plan(identity, run.id, NAME, chosen, everything, estimate, summary, compile_seconds=took)

    def apply(self, workload: Workload, plan: Plan, progress: Progress = silent) -> tuple[Workload, Applied] | Refusal:
        """Return the workload with a fused model, and what was decided; a Refusal where eager is as fast."""
        if workload.step is not None:
            return Refusal(NAME, "the workload runs its own step, which fusion cannot see into")
        if workload.training:
            return _apply_training(workload, plan, progress)
        args, kwargs = workload.batch(0)
        stages = Stages(progress)
        fused = fuse_measured(
            workload.model,
            args,
            kwargs,
            max_error=plan.options.get("max_error"),
            min_gain=float(plan.options.get("min_gain", 0.0)),
            progress=stages,
        )
        if isinstance(fused, Refusal):
            return fused
        stages("proving regions", 0.9)
        remember(plan.compile_seconds, sum(stages.seconds.values()))
        proof = prove(fused, workload.model, stages.seconds)
        workload.model = fused.module
        return workload, Applied(plan, decisions(fused), {**blobs(fused), FILE: save_proof(proof)})

    def rebuild(self, workload: Workload, applied: Applied) -> Workload:
        """Repeat the decisions on a fresh workload. Raises RecordError where graph or program differ."""
        decided = applied.decisions
        if decided.get("training"):
            # Imported here and below: torch.compile takes a second to load, which inference does without.
            from optimizers.fusion.backend_training import rebuild_training

            rebuild_training(workload, decided)
            return workload
        args, kwargs = workload.batch(0)
        try:
            with torch.no_grad():
                captured = capture(workload.model, args, kwargs)
                program, kernels = build(captured, tuple(decided["excluded"]), bool(decided.get("rolled")))
        except UnfusableError as error:
            raise RecordError(f"the fused candidate cannot be built again: {error}") from error
        if graph_hash(captured) != decided["graph"]:
            raise RecordError("the model's graph is no longer the one that was fused; optimize it again")
        if program.digest() != decided["program"] or sorted(kernels) != sorted(decided["kernels"]):
            raise RecordError("this version builds another program than the one that was measured; optimize again")
        workload.model = FusedModule(workload.model, captured, Runner(program, kernels))
        return workload


def _apply_training(workload: Workload, plan: Plan, progress: Progress) -> tuple[Workload, Applied] | Refusal:
    from optimizers.fusion.backend_training import fuse_training
    from optimizers.fusion.live_training import Watch, prove_training

    stages, watch = Stages(progress), Watch()
    max_error, min_gain = plan.options.get("max_error"), float(plan.options.get("min_gain", 0.0))
    fused = fuse_training(workload, max_error, min_gain, stages, watch)
    if isinstance(fused, Refusal):
        return fused
    decided, sources = fused
    stages("proving regions", 0.95)
    remember(plan.compile_seconds, sum(stages.seconds.values()))
    proof = prove_training(watch, decided, stages.seconds)
    return workload, Applied(plan, decided, {**sources, FILE: save_proof(proof)})


_DONE = "fused"
"""Told when all is done: no stage of its own."""


class Stages:
    """A Progress that passes everything on and keeps how long each stage took."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._began: tuple[str, float] | None = None
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str, fraction: float) -> None:
        """Tell of a stage that begins."""
        now = time.perf_counter()
        if self._began is not None and self._began[0] != _DONE:
            name, began = self._began
            self.seconds[name] = self.seconds.get(name, 0.0) + now - began
        self._began = (stage, now)
        self._progress(stage, fraction)


def prove(fused: Fused, model: torch.nn.Module, seconds: Mapping[str, float]) -> Proof:
    """Return the proof of a fused model's regions. seconds: what applying took, by stage."""
    weights, inputs = tensors_of(model, fused.captured)
    regions: tuple[RegionProof, ...] = ()
    problem = "kernels on a GPU are not proven one by one yet"
    if all(tensor.device.type == "cpu" for tensor in (*weights, *inputs)):
        regions, problem = proven(
            lambda: prove_regions(fused.captured, fused.program, fused.kernels, fused.choices, weights, inputs)
        )
    whole = (*two_ways(fused.comparison, True, "program"), *fused.others)
    return Proof({"": graph_ops(fused.captured, fused.program)}, regions, whole, dict(seconds), problem)


def decisions(fused: Fused) -> dict[str, Any]:
    """Return, as plain JSON, what repeating it needs and what was measured for each kernel."""
    program = fused.program
    return {
        "graph": graph_hash(fused.captured),
        "program": program.digest(),
        "excluded": list(fused.excluded),
        "rolled": fused.rolled,
        "loops": [
            {"kernel": loop.name, "trips": loop.program.trips, "definitions": loop.period} for loop in program.loops
        ],
        "kernels": sorted(fused.kernels),
        "kernel_calls": program.kernel_calls,
        "library_calls": program.library_calls,
        "arena_bytes": program.arena_bytes,
        "choices": [
            {
                "kernel": choice.kernel,
                "calls": choice.calls,
                "nodes": list(choice.nodes),
                "kept": choice.kept,
                **choice.comparison.as_dict(),
            }
            for choice in fused.choices
        ],
        "eager_over_fused": fused.comparison.as_dict(),
        "max_rel": fused.accuracy.max_rel,
        "max_rel_against_float64": list(fused.against_float64) if fused.against_float64 else None,
        "threads": torch.get_num_threads(),
    }


def blobs(fused: Fused) -> dict[str, bytes]:
    """Return the program's source and those of its kernels, by file name."""
    sources = {f"{name}.py": kernel.source.encode() for name, kernel in fused.kernels.items()}
    return {"program.py": fused.program.source.encode(), **sources}
