"""The callbacks behind app.components.regions: a region's details when it is chosen, and its export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, MATCH, Dash, Input, Output, State, ctx, html, no_update
from dash.exceptions import PreventUpdate

from analyzer.errors import HotbenchError
from app import workbench
from app.components.command import command_line
from app.components.empty import problem
from app.components.experiment_callbacks import needs_of_run
from app.components.icons import icon
from app.components.jobs import job_progress
from app.components.links import download_button
from app.components.regions import DETAIL, GRID, SHOWN, region_detail
from app.components.role import allowed, needs_role
from app.jobs.job import Job
from app.views.loaded import Cache
from app.views.regions import RegionsView, proofs, regions_view
from app.web.access import require
from app.web.context import context

ACTS, EXPORT = "region-acts", "region-export"
_views = Cache(8)


def view_of(experiment: str) -> RegionsView | None:
    """Return the regions of an experiment's candidate, from memory where they were asked for before."""
    store = context().store
    entry = store.find(experiment, ("experiment",))

    def make() -> tuple[RegionsView | None]:
        proof = workbench.read_proof(store, entry.id)
        # In a tuple: "no regions" is an answer to keep too.
        return (regions_view(entry.id, proof.candidate, proof.run) if proof.candidate is not None else None,)

    found: tuple[RegionsView | None] = _views.get((str(store.folder(entry)), entry.digest), make)
    return found[0]


def source_of(experiment: str, kernel: str) -> str:
    """Return the generated source of one kernel, "" where the candidate holds none."""
    store = context().store
    candidate = workbench.read_proof(store, experiment).candidate
    for applied, _ in proofs(candidate) if candidate is not None else ():
        if f"{kernel}.py" in applied.blobs:
            return applied.blobs[f"{kernel}.py"].decode(errors="replace")
    return ""


def acts(experiment: str, kernel: str, kept: bool) -> list[Any]:
    """Return the button that exports a region, where its export stands, and the command that does the same."""
    if not kept:
        return []
    job = _latest(experiment, kernel)
    made = _made(experiment, kernel)
    parts: list[Any] = []
    if made is not None:
        parts.append(download_button("Download the reproducer", f"/api/reproducers/{made}.zip"))
    else:
        busy = job is not None and job.live
        parts.append(
            dmc.Button(
                "Export this region", id=_id(EXPORT, experiment, kernel), leftSection=icon("artifacts", 16),
                variant="default",
                disabled=busy or not allowed(),
            )
        )  # fmt: skip
    words = "A folder that runs the kernel by itself, with numpy and numba, checks it and times it."
    lines: list[Any] = [dmc.Group([*parts, dmc.Text(words, size="sm", c="dimmed", flex=1, miw=220)], gap="sm")]
    if job is not None and made is None:
        lines += [job_progress(job)] if job.live else []
        lines += [problem(job.error, title="The export failed")] if job.state == "failed" else []
    lines += needs_role("exporting")
    lines.append(command_line(f"hotbench export {experiment} --region {kernel} -o {kernel}"))
    return [dmc.Stack(lines, gap="xs")]


def _latest(experiment: str, kernel: str) -> Job | None:
    jobs = context().jobs.list(about=experiment, limit=40)
    return next((job for job in jobs if job.kind == "export" and job.arguments.get("region") == kernel), None)


def _made(experiment: str, kernel: str) -> str | None:
    entries = context().store.entries("reproducer")
    found = (item for item in entries if item.parent == experiment and item.summary.get("region") == kernel)
    entry = next(found, None)
    return entry.id if entry is not None else None


def export(experiment: str, kernel: str) -> None:
    """Ask for the export of one region, as the person of this request. Raises HotbenchError in words."""
    who = require("editor")
    view = view_of(experiment)
    known = {region.kernel for region in view.regions if region.kept} if view is not None else set()
    if view is None or kernel not in known:
        raise HotbenchError(f"{experiment} has no kernel {kernel[:40]!r} to export; choose one of the grid")
    shared = context()
    store = shared.store
    candidate = store.get(store.get(view.experiment).parent or "")
    running = _latest(view.experiment, kernel)
    if running is not None and running.live:
        return
    shared.jobs.submit(
        "export",
        {"experiment": view.experiment, "region": kernel},
        title=f"Export {kernel}",
        user=who.name,
        needs=needs_of_run(candidate.parent or ""),
        about=view.experiment,
    )


def register(app: Dash) -> None:
    """Declare them on `app`."""

    @app.callback(
        Output(DETAIL, "children"), Input(GRID, "selectedRows"), State(SHOWN, "data"), prevent_initial_call=False
    )
    def _chosen(rows: Any, shown: Mapping[str, str] | None) -> Any:
        key = _chosen_key(rows)
        if not shown or not key:
            raise PreventUpdate
        view = view_of(shown["experiment"])
        region = view.region(key) if view is not None else None
        if view is None or region is None:
            raise PreventUpdate
        kernel = region.kernel
        below = html.Div(acts(view.experiment, kernel, region.kept), id=_id(ACTS, view.experiment, kernel))
        source = source_of(view.experiment, kernel) if region.kept else ""
        return region_detail(view, region, shown["run"], source, below)

    @app.callback(
        Output(_id(ACTS, MATCH, MATCH), "children"),
        Input(_id(EXPORT, MATCH, MATCH), "n_clicks"),
        prevent_initial_call=True,
    )
    def _export(clicks: int | None) -> Any:
        if not clicks or not isinstance(ctx.triggered_id, Mapping):
            raise PreventUpdate
        experiment, kernel = str(ctx.triggered_id["experiment"]), str(ctx.triggered_id["kernel"])
        try:
            export(experiment, kernel)
        except HotbenchError as error:
            return [problem(str(error), title="It was not started")]
        return acts(experiment, kernel, True)

    @app.callback(
        Output(_id(ACTS, ALL, ALL), "children", allow_duplicate=True),
        Input("jobs-changed", "data"),
        State(_id(ACTS, ALL, ALL), "id"),
        prevent_initial_call=True,
    )
    def _refresh(changed: Mapping[str, Any] | None, shown: Sequence[Mapping[str, str]]) -> list[Any]:
        return [_after(str((changed or {}).get("job") or ""), item) for item in shown]


def _after(job: str, shown: Mapping[str, str]) -> Any:
    latest = _latest(shown["experiment"], shown["kernel"])
    if latest is None or latest.id != job:
        return no_update
    return acts(shown["experiment"], shown["kernel"], True)


def _id(part: str, experiment: Any, kernel: Any) -> dict[str, Any]:
    return {"part": part, "experiment": experiment, "kernel": kernel}


def _chosen_key(rows: Any) -> str:
    """Return the chosen row's key: the grid gives rows, and at first the ids that it was made with."""
    if isinstance(rows, Mapping):
        ids: Sequence[Any] = rows.get("ids") or ()
        return str(ids[0]) if ids else ""
    if isinstance(rows, list) and rows and isinstance(rows[0], Mapping):
        return str(rows[0].get("id", ""))
    return ""
