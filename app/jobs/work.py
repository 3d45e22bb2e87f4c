"""What jobs do: one function a kind, each a call of the workbench.

profile   {workload: "/abs/file.py:function", device, steps, threads}                -> {run}
optimize  {run, optimizers: [...], settings: {"fusion.min_gain": "1.05"}, max_error} -> optimize's JSON
compare   {before, after}                                                            -> compare's JSON
export    {experiment, format: "torch" (default) or "onnx"}                          -> {artifact}
export    {experiment, region: a kernel's name}                                      -> {reproducer}
largest-batch {run, budget: "2GiB", axis, allow, folder}                             -> largest_batch's JSON
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from analyzer.progress import Progress
from app.jobs.job import Job
from app.store import Store

Echo = Callable[[str], None]
Kind = Callable[[Store, Mapping[str, Any], Progress, Echo], dict[str, Any]]
"""(store, the job's arguments, progress, echo for log lines) -> the job's result as plain JSON."""

# The workbench is imported where it is used: the server knows the kinds without loading torch.


def profile(store: Store, arguments: Mapping[str, Any], progress: Progress, echo: Echo) -> dict[str, Any]:
    """Capture a workload into the store."""
    from app import workbench
    from app.derived.prepare import prepare_or_tell

    run = workbench.profile(
        store,
        arguments["workload"],
        device=arguments.get("device") or "auto",
        steps=arguments.get("steps"),
        threads=arguments.get("threads"),
        progress=progress,
        echo=echo,
    )
    prepare_or_tell(store, run.id, echo)
    return {"run": run.id}


def optimize(store: Store, arguments: Mapping[str, Any], progress: Progress, echo: Echo) -> dict[str, Any]:
    """Apply optimizers to a run's workload and measure what they gave; refusals are a result, not an error."""
    from app import workbench
    from optimizers.pipeline import optimize_summary

    outcome = workbench.optimize(
        store,
        arguments["run"],
        arguments["optimizers"],
        arguments.get("settings") or {},
        max_error=arguments.get("max_error"),
        progress=progress,
    )
    for refusal in outcome.refusals:
        echo(f"{refusal.optimizer}: {refusal.reason}")
    return optimize_summary(outcome)


def compare(store: Store, arguments: Mapping[str, Any], progress: Progress, echo: Echo) -> dict[str, Any]:
    """Measure two runs anew, interleaved where both can be rebuilt."""
    from app import workbench
    from app.comparison import comparison_summary

    summary = comparison_summary(workbench.compare(store, arguments["before"], arguments["after"], progress))
    # Thousands of ops may differ: a page reads them from the runs, and no list of jobs should carry them.
    return {name: value for name, value in summary.items() if not name.startswith("ops_")}


def export(store: Store, arguments: Mapping[str, Any], progress: Progress, echo: Echo) -> dict[str, Any]:
    """Write an experiment's artifact, or one of its generated kernels, into the store."""
    from app import reproducers, workbench

    if region := arguments.get("region"):
        return {"reproducer": reproducers.export_region_to_store(store, arguments["experiment"], region, progress).id}
    format = arguments.get("format") or "torch"
    return {"artifact": workbench.export_to_store(store, arguments["experiment"], progress, format).id}


def largest_batch(store: Store, arguments: Mapping[str, Any], progress: Progress, echo: Echo) -> dict[str, Any]:
    """Find the largest batch whose step fits a budget, and run it."""
    from app import workbench

    found = workbench.largest_batch(
        store,
        arguments["run"],
        arguments["budget"],
        axis=arguments.get("axis") or 0,
        allow=arguments.get("allow") or "swap,recompute",
        folder=arguments.get("folder") or "",
        progress=progress,
    )
    # The run is what the job is about; a result names only what was made.
    return {name: value for name, value in found.items() if name != "run"}


KINDS: Mapping[str, Kind] = {
    "profile": profile,
    "optimize": optimize,
    "compare": compare,
    "export": export,
    "largest-batch": largest_batch,
}


def settle(store: Store, job: Job, result: Mapping[str, Any]) -> None:
    """Do what follows from a job's result before it is told: mark a proven candidate as kept for its run.

    Called wherever a job was done, before `Jobs.finish`; doing it twice changes nothing.
    """
    if job.kind != "optimize" or not result.get("kept"):
        return
    from app.store import keeps

    run = store.find(job.arguments["run"], ("run",))
    keeps.keep(store, run.id, result["experiment"], job.user)
