"""The callbacks behind app.components.largest_batch: the search is a job, whose result stays on the card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dash import Dash, Input, Output, State, no_update
from dash.exceptions import PreventUpdate

from analyzer.errors import HotbenchError
from app.components.empty import problem
from app.components.experiment_callbacks import needs_of_run
from app.components.largest_batch import AXIS, FIND, ROOM, STATE, largest_panel, largest_state
from app.components.swap import ALLOW, BUDGET, FOLDER
from app.components.swap_callbacks import step_of
from app.jobs.job import Job
from app.views.loaded import run_entry
from app.web.access import require
from app.web.context import context

KIND = "largest-batch"
_MOST_JOBS = 200


def asked(run: str, budget: str | None, axis: str | None, allow: str | None, folder: str | None) -> dict[str, Any]:
    """Return the arguments of the search that the form asks for."""
    return {
        "run": run,
        "budget": (budget or "").strip(),
        "axis": int(axis) if axis in ("0", "1") else 0,
        "allow": (allow or "").strip(),
        "folder": (folder or "").strip(),
    }


def newest(run: str) -> Job | None:
    """Return the newest search for a run."""
    return next((job for job in context().jobs.list(about=run, limit=_MOST_JOBS) if job.kind == KIND), None)


def find(arguments: Mapping[str, Any]) -> None:
    """Ask for a search, as the person of this request. Raises HotbenchError in words."""
    from optimizers.swap.budget import read_budget
    from optimizers.swap.optimizer import SwapOptions

    who = require("editor")
    read_budget(arguments["budget"], 1 << 30)
    SwapOptions(budget=arguments["budget"], allow=arguments["allow"], folder=arguments["folder"])
    shared = context()
    entry = run_entry(shared.store, arguments["run"])
    running = newest(entry.id)
    if running is not None and running.live:
        raise HotbenchError("the largest batch of this run is being searched for already; wait for it or cancel it")
    shared.jobs.submit(
        KIND,
        {**arguments, "run": entry.id},
        title=f"Largest batch of {entry.name} within {arguments['budget']}",
        user=who.name,
        needs=needs_of_run(entry.id),
        about=entry.id,
    )


def register(app: Dash) -> None:
    """Declare them on `app`."""
    form = [State(BUDGET, "value"), State(AXIS, "value"), State(ALLOW, "value"), State(FOLDER, "value")]
    of_run = State("optimize-run", "data")

    @app.callback(
        Output(ROOM, "children"), Input("optimize-run", "data"), State(BUDGET, "value"), State(ALLOW, "value")
    )
    def _room(run: str, budget: str | None, allow: str | None) -> Any:
        # Where its step cannot be simulated, it cannot be fitted: the plan above says why.
        if isinstance(step_of(run, allow or "", ""), str):
            return []
        return largest_panel(largest_state(newest(run), asked(run, budget, "0", allow, "")))

    @app.callback(Output(STATE, "children"), Input(FIND, "n_clicks"), of_run, *form, prevent_initial_call=True)
    def _find(clicks: int | None, run: str, *values: Any) -> Any:
        if not clicks:
            raise PreventUpdate
        wanted = asked(run, *values)
        try:
            find(wanted)
        except HotbenchError as error:
            return [problem(str(error), title="It was not started")]
        return largest_state(newest(run), wanted)

    @app.callback(
        Output(STATE, "children", allow_duplicate=True),
        Input("jobs-changed", "data"),
        of_run,
        *form,
        prevent_initial_call=True,
    )
    def _refresh(changed: Mapping[str, Any] | None, run: str, *values: Any) -> Any:
        job = newest(run)
        if job is None or job.id != str((changed or {}).get("job") or ""):
            return no_update
        return largest_state(job, asked(run, *values))

    @app.callback(
        Output(STATE, "children", allow_duplicate=True),
        Input(BUDGET, "value"),
        Input(AXIS, "value"),
        Input(ALLOW, "value"),
        Input(FOLDER, "value"),
        of_run,
        prevent_initial_call=True,
    )
    def _changed(budget: Any, axis: Any, allow: Any, folder: Any, run: str) -> Any:
        return largest_state(newest(run), asked(run, budget, axis, allow, folder))
