"""The panel that captures a workload: what, where, how; then the job as it happens. A page holds it once."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, html, no_update

from app.components.command import command_line
from app.components.empty import note
from app.components.icons import icon
from app.components.jobs import job_progress
from app.components.role import allowed, needs_role
from app.jobs.job import Job
from app.store.workers import Workers
from app.views.new_run import DEVICES, Choice, find_choice, grouped, job_request, local_choices, worker_choices
from app.web.access import require
from app.web.context import context

_DEVICE_WORDS = {"auto": "GPU if there is one", "cpu": "CPU", "cuda": "GPU (cuda)"}


def choices() -> tuple[tuple[Choice, ...], tuple[str, ...]]:
    """Return the workloads that this server may run or have run, and what could not be read."""
    local, problems = local_choices(context().settings.workloads)
    return (*local, *worker_choices(Workers(context().store.database).list())), problems


def new_run() -> Any:
    """Return the panel: the form, the command that does the same, and the captures that run now."""
    offered, problems = choices()
    parts: list[Any] = [_form(offered)] if offered else [_nothing_offered()]
    if problems:
        lines = html.Ul([html.Li(text, className="hb-break") for text in problems], className="hb-notes")
        parts.append(
            html.Details([html.Summary(f"{len(problems)} of the files cannot be read"), lines], className="hb-more")
        )
    return dmc.Stack([*parts, html.Div(captures(), id="new-run-jobs", className="hb-live")], gap="sm")


def _nothing_offered() -> Any:
    steps = [
        html.Span("This server may run no workload yet. Start it with the folder that holds yours:"),
        command_line("hotbench serve --workloads FOLDER", "Start it so"),
        html.Span("or capture one from the command line into the same store:"),
        command_line("hotbench profile FILE.py:FUNCTION"),
    ]
    return note(dmc.Stack(steps, gap="xs"), "No workload to choose from")


def _form(offered: tuple[Choice, ...]) -> Any:
    first = offered[0]
    fields = html.Div(
        [
            dmc.Select(
                label="Workload",
                id="new-run-workload",
                data=grouped(offered),
                value=first.value,
                searchable=True,
                allowDeselect=False,
                nothingFoundMessage="No workload of that name",
                className="hb-field-wide",
            ),
            dmc.Select(
                label="Device",
                id="new-run-device",
                data=[{"value": name, "label": _DEVICE_WORDS[name]} for name in DEVICES],
                value="auto",
                allowDeselect=False,
                className="hb-field",
            ),
            _number("Steps", "new-run-steps", "as needed"),
            _number("Threads", "new-run-threads", "default"),
            dmc.Button(
                "Capture", id="new-run-start", leftSection=icon("play", 16), disabled=not allowed(),
                className="hb-field-act",
            ),
        ],
        className="hb-form",
    )  # fmt: skip
    about = html.Div(_about(first), id="new-run-about")
    return dmc.Stack([fields, about, *needs_role("capturing")], gap="xs")


def _number(label: str, id: str, default: str) -> dmc.NumberInput:
    return dmc.NumberInput(
        label=label, id=id, placeholder=default, min=1, allowDecimal=False, className="hb-field-small"
    )


def _about(choice: Choice, device: str | None = "auto", steps: object = None, threads: object = None) -> Any:
    """Return what the chosen workload says of itself, and the command that captures it."""
    options = [f"--{name} {value}" for name, value in (("device", device), ("steps", steps), ("threads", threads))
               if value not in (None, "", "auto")]  # fmt: skip
    words = f"{choice.about} " if choice.about else ""
    where = "" if choice.place == "local" else f"Done by the worker {choice.place_name}. "
    command = " ".join(["hotbench profile", choice.label if where else choice.workload, *options])
    return dmc.Stack([html.Div([words, where], className="hb-subtitle"), command_line(command, here=not where)], gap=6)


def captures() -> list[Any]:
    """Return the cards of the captures that run or wait."""
    live = [job for job in context().jobs.list(live=True) if job.kind == "profile"]
    return [job_progress(job, "new-run") for job in live]


def register(app: Dash) -> None:
    """Declare what the form does."""

    @app.callback(
        Output("new-run-about", "children"),
        Input("new-run-workload", "value"),
        Input("new-run-device", "value"),
        Input("new-run-steps", "value"),
        Input("new-run-threads", "value"),
        prevent_initial_call=True,
    )
    def _describe(value: str | None, device: str | None, steps: object, threads: object) -> Any:
        return _about(find_choice(choices()[0], value), device, steps, threads)

    @app.callback(
        Output("new-run-jobs", "children"),
        Input("new-run-start", "n_clicks"),
        State("new-run-workload", "value"),
        State("new-run-device", "value"),
        State("new-run-steps", "value"),
        State("new-run-threads", "value"),
        State("new-run-jobs", "children"),
        running=[(Output("new-run-start", "loading"), True, False)],
        prevent_initial_call=True,
    )
    def _start(clicks: int, value: str, device: str, steps: object, threads: object, shown: list[Any] | None) -> Any:
        if not clicks:
            return no_update
        job = start(value, device, steps, threads)
        return [job_progress(job, "new-run"), *(shown or [])]


def start(value: str | None, device: str | None, steps: object, threads: object) -> Job:
    """Submit the profile job as the person of this request, and return it.

    Raises Forbidden for a viewer, HotbenchError in words for a choice that does not do.
    """
    who = require("editor")
    request = job_request(find_choice(choices()[0], value), device, steps, threads, context().settings.workloads)
    return context().jobs.submit("profile", request.arguments, title=request.title, user=who.name, needs=request.needs)
