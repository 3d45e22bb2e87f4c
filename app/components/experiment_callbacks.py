"""The callbacks behind app.components.experiment_acts: one declaration for every page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import ALL, MATCH, Dash, Input, Output, State, ctx, no_update
from dash.exceptions import PreventUpdate

from analyzer.errors import HotbenchError
from app.components.experiment_acts import ACT, EXPORT, EXPORT_ONNX, KEEP, PART, PUBLISH, UNDO, acts
from app.store import keeps
from app.views.experiment_state import ExperimentState, experiment_state
from app.web.access import person, require
from app.web.context import context


def register(app: Dash) -> None:
    """Declare them on `app`."""
    everywhere = {"part": PART, "experiment": ALL, "place": ALL}

    @app.callback(
        Output({"part": PART, "experiment": MATCH, "place": MATCH}, "children"),
        Input({"part": ACT, "experiment": MATCH, "place": MATCH, "act": ALL}, "n_clicks"),
        prevent_initial_call=True,
    )
    def _act(clicks: Sequence[int | None]) -> Any:
        if not any(clicks) or not isinstance(ctx.triggered_id, Mapping):
            raise PreventUpdate
        clicked = ctx.triggered_id
        state = act_on(str(clicked["experiment"]), str(clicked["act"]))
        return acts(state, str(clicked["place"]))

    @app.callback(
        Output(everywhere, "children", allow_duplicate=True),
        Input("jobs-changed", "data"),
        State(everywhere, "id"),
        prevent_initial_call=True,
    )
    def _refresh(changed: Mapping[str, Any] | None, shown: Sequence[Mapping[str, str]]) -> list[Any]:
        job = _changed_job(changed)
        if job is None or job.kind not in ("export", "optimize"):
            return [no_update] * len(shown)
        about = (job.about, (job.result or {}).get("experiment"))
        return [_shown(item) if item["experiment"] in about else no_update for item in shown]


def act_on(experiment: str, act: str) -> ExperimentState:
    """Do one act as the person of this request, and return where the experiment stands then.

    Raises Forbidden for a viewer, HotbenchError in words for what cannot be done.
    """
    who = require("editor")
    shared = context()
    state = experiment_state(shared.store, shared.jobs, experiment)
    if act in (KEEP, UNDO) and state.run is not None:
        change = keeps.keep if act == KEEP else keeps.undo
        change(shared.store, state.run, state.experiment, who.name)
    elif act in (EXPORT, EXPORT_ONNX):
        _export(state, "onnx" if act == EXPORT_ONNX else "torch")
    elif act == PUBLISH:
        from app import workbench

        workbench.publish(shared.store, state.experiment, who.name)
    else:
        raise HotbenchError(f"{experiment} compares two runs: there is nothing to {act[:20]}")
    return experiment_state(shared.store, shared.jobs, experiment)


def _export(state: ExperimentState, format: str) -> None:
    shared = context()
    if not state.proven:
        raise HotbenchError(f"{state.experiment} ended {state.verdict!r}: only a proven candidate is exported")
    if state.export is not None and state.export.live:
        return
    shared.jobs.submit(
        "export",
        {"experiment": state.experiment, **({} if format == "torch" else {"format": format})},
        title=f"Export {' + '.join(state.optimizers) or state.experiment}{' as ONNX' if format == 'onnx' else ''}",
        user=person().name,
        needs=needs_of_run(state.run or ""),
        about=state.experiment,
    )


def needs_of_run(run: str) -> dict[str, Any]:
    """Return where a job on that run can be done. Raises WorkloadError, in words, where no place can."""
    from app.store.workers import Workers
    from app.views.loaded import loaded_run, run_entry
    from app.workloads import needs_of

    shared = context()
    entry = run_entry(shared.store, run)
    workers = Workers(shared.store.database).list()
    return needs_of(entry, loaded_run(shared.store, run), shared.settings, workers)


def _shown(item: Mapping[str, str]) -> Any:
    shared = context()
    return acts(experiment_state(shared.store, shared.jobs, item["experiment"]), item["place"])


def _changed_job(changed: Mapping[str, Any] | None) -> Any:
    id = (changed or {}).get("job")
    if not id:
        return None
    try:
        return context().jobs.get(str(id))
    except HotbenchError:
        return None
