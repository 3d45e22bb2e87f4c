"""The first start: the bundled example is profiled, live on the page, so that there is something to look at."""

from __future__ import annotations

from pathlib import Path

from app.jobs.job import Job
from app.web.context import Context


def submit_first_run(context: Context, workload: str) -> Job | None:
    """Return the job that profiles `/path/file.py:function`; None where a run or a job exists already."""
    if not context.store.writable or context.store.entries("run") or context.jobs.list(limit=1):
        return None
    file, _, function = workload.rpartition(":")
    return context.jobs.submit(
        "profile",
        {"workload": workload, "device": "auto", "steps": None, "threads": None},
        title=f"Capture {Path(file).name}:{function}",
        user="local",
        needs={"place": "local"},
    )
