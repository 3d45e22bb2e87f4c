"""Reproducers of a saved candidate: one of its generated kernels as a folder that runs by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analyzer.errors import HotbenchError
from analyzer.threads import torch_threads
from optimizers.candidate import rebuild_candidate
from optimizers.fusion.live import LiveProgram, live_module
from optimizers.fusion.module import FusedModule
from optimizers.fusion.reproducer import Reproducer, export_region, find_region
from optimizers.plan import Candidate


def export_reproducer(candidate: Candidate, region: str, folder: Path, threads: int = 1) -> Reproducer:
    """Write one kernel of a candidate into `folder`: its model is built afresh, and its memory taken from a run of it.

    region: the kernel's name, or a part of it that no other has. threads: of the run that the candidate is about.
    Raises HotbenchError where the candidate has no such kernel, or is none of fusion's.
    """
    with torch_threads(threads):
        live = live_programs(candidate)
        program, kernel = find_region(live, region)
        return export_region(program, kernel, folder, {"candidate": candidate.id})


def live_programs(candidate: Candidate) -> list[LiveProgram]:
    """Return the programs of a candidate, built afresh, with tensors of a real step."""
    if any(item.decisions.get("training") for item in candidate.applied):
        from optimizers.fusion.live_training import live_training

        return live_training(candidate)
    workload = rebuild_candidate(candidate)
    model: Any = workload.model
    if not isinstance(model, FusedModule):
        names = ", ".join(item.plan.optimizer for item in candidate.applied)
        raise HotbenchError(f"a candidate of {names} has no generated kernels to export one by one")
    args, kwargs = workload.batch(0)
    return [live_module(model, args, kwargs)]
