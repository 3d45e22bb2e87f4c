"""The largest batch that fits a memory budget, on the page: what to make longer, the search, and what it found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dash_mantine_components as dmc
from dash import html

from app.components.badge import origin_badge
from app.components.command import command_line
from app.components.empty import problem
from app.components.facts import facts
from app.components.jobs import job_progress
from app.components.role import allowed, needs_role
from app.jobs.job import Job
from app.units import mebibytes, milliseconds, plural
from app.views.jobs import largest_command

ROOM, AXIS, FIND, STATE = "swap-largest", "swap-axis", "swap-find-largest", "swap-largest-state"
_AXES = [{"value": "0", "label": "the batch (axis 0)"}, {"value": "1", "label": "mostly the sequence (axis 1)"}]


def largest_panel(state: Any) -> list[Any]:
    """Return the choice of what grows, the button, and the place for where the search stands."""
    about = (
        "Steps of several sizes are traced and planned for the budget above; the largest that fits is then run, and "
        "its peak measured. 100 % asks what fits into the memory that the step takes now."
    )
    grows = dmc.Select(id=AXIS, label="What grows", data=_AXES, value="0", allowDeselect=False, w=240)
    find = dmc.Button("Find the largest", id=FIND, variant="default", disabled=not allowed())
    return [
        dmc.Stack(
            [
                dmc.Title("The largest batch that fits", order=3, className="hb-section-title"),
                dmc.Text(about, size="sm", c="dimmed"),
                dmc.Group([grows, find], align="end", gap="sm"),
                *needs_role("searching"),
                html.Div(state, id=STATE),
            ],
            gap="sm",
        )
    ]


def largest_state(job: Job | None, asked: Mapping[str, Any]) -> list[Any]:
    """Return where the newest search stands or what it found, and the command for what the form asks now."""
    parts: list[Any] = []
    if job is not None and (job.live or job.state == "cancelled"):
        parts.append(job_progress(job))
    elif job is not None and job.state == "failed":
        parts.append(problem(job.error, title="Nothing was found"))
    elif job is not None and job.result:
        parts.append(_found(job))
    return [dmc.Stack([*parts, command_line(largest_command(asked))], gap="sm")]


def _found(job: Job) -> Any:
    result: Mapping[str, Any] = job.result or {}
    grows = "along axis 0" if not result.get("axis") else f"along axis {result['axis']}"
    peak, alone = result.get("peak_bytes_measured"), result.get("peak_bytes_before")
    step, step_alone = (_median(result.get(f"step_seconds_{name}")) for name in ("after", "before"))
    simulated = result.get("unswapped", {}).get("mid", 0)
    rows = [
        ("Largest that fits", plural(result.get("batch", 0), "item"), f"{grows}, within {_asked(job, result)}"),
        ("Peak, measured", mebibytes(peak), f"{mebibytes(alone)} with nothing moved"),
        ("Step, measured", milliseconds(step), f"{milliseconds(step_alone)} with nothing moved"),
        ("With nothing moved, simulated", plural(round(simulated), "item"), "would fit into the same budget"),
    ]
    badges = dmc.Group([origin_badge(False), origin_badge(True)], gap=6)
    return dmc.Stack([badges, facts(rows)], gap="xs")


def _asked(job: Job, result: Mapping[str, Any]) -> str:
    written, bytes_asked = str(job.arguments.get("budget", "")), mebibytes(result.get("budget_bytes"))
    return f"{written} = {bytes_asked}" if written.endswith("%") else bytes_asked


def _median(value: object) -> float | None:
    found = value.get("median") if isinstance(value, Mapping) else None
    return float(found) if isinstance(found, int | float) else None
