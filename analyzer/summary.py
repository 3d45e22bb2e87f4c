"""What `profile` and `show` print of a Run, as plain JSON values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from analyzer.graph import Op
from analyzer.run import Run


def profile_summary(run: Run) -> dict[str, Any]:
    """Return what a capture found, by the keys of the command line's contract."""
    return {
        "run": run.id,
        "name": run.name,
        "device": asdict(run.device),
        "environment": run.environment.as_dict(),
        "threads": run.threads,
        "training": run.training,
        "ops": len(run.graph.ops),
        "edges": len(run.graph.edges),
        "step_seconds": run.step_seconds.as_dict(),
        "throughput": run.throughput,
        "overhead": run.overhead.as_dict(),
        "peak_bytes": run.memory.peak_bytes,
        "coverage": run.coverage.as_dict(),
        "notes": list(run.notes),
    }


def show_summary(run: Run, ops: int) -> dict[str, Any]:
    """Return the `ops` names that take most time, kernels, memory at the peak, and the device's busy and idle time."""
    groups = group_by_name(run.graph.ops)
    return {
        "run": run.id,
        "name": run.name,
        "step_seconds": run.step_seconds.as_dict(),
        "ops": groups[:ops],
        "op_names": len(groups),
        "kernels": group_kernels(run)[:ops],
        "memory": {**run.memory.at_peak, "peak": run.memory.peak_bytes},
        "busy_seconds": run.busy_seconds,
        "idle_seconds": run.idle_seconds,
    }


def group_by_name(ops: Iterable[Op]) -> list[dict[str, Any]]:
    """Return count, summed self seconds, share of all self time, FLOPs and bytes of each name, most time first.

    Seconds are the sum of the ops' medians, in one step.
    """
    groups: dict[str, dict[str, Any]] = {}
    for op in ops:
        group = groups.setdefault(
            op.name, {"name": op.name, "count": 0, "self_seconds": 0.0, "share": 0.0, "flops": 0.0, "bytes": 0}
        )
        group["count"] += 1
        group["self_seconds"] += op.self_seconds.median if op.self_seconds is not None else 0.0
        group["flops"] += op.flops
        group["bytes"] += op.bytes_moved
    total = sum(group["self_seconds"] for group in groups.values())
    for group in groups.values():
        group["share"] = group["self_seconds"] / total if total else 0.0
    return sorted(groups.values(), key=lambda group: (-group["self_seconds"], group["name"]))


def group_kernels(run: Run) -> list[dict[str, Any]]:
    """Return count and summed seconds of each kernel's name, and how many of its executions found no op."""
    groups: dict[str, dict[str, Any]] = {}
    for kernel in run.kernels:
        group = groups.setdefault(kernel.name, {"name": kernel.name, "count": 0, "seconds": 0.0, "orphans": 0})
        group["count"] += 1
        group["seconds"] += kernel.seconds
        group["orphans"] += kernel.op < 0
    return sorted(groups.values(), key=lambda group: (-group["seconds"], group["name"]))
