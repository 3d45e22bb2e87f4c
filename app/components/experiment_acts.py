"""What a person can do with an experiment: keep or undo, export, download, write a report."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import html

from app.components.badge import badge
from app.components.command import commands
from app.components.empty import problem
from app.components.icons import icon
from app.components.jobs import job_progress
from app.components.links import download_button, link, link_button
from app.components.role import allowed, needs_role
from app.views.experiment_state import ExperimentState
from app.views.experiments import keep_words

PART, ACT = "experiment-acts", "experiment-act"
KEEP, UNDO, EXPORT, EXPORT_ONNX, PUBLISH = "keep", "undo", "export", "export-onnx", "publish"


def acts_id(experiment: str, place: str) -> dict[str, str]:
    """Return the id of the part that callbacks replace; `place` is the page that it stands on."""
    return {"part": PART, "experiment": experiment, "place": place}


def experiment_acts(state: ExperimentState, place: str) -> html.Div:
    """Return the acts in a part that callbacks refresh; on the page of the experiments without a link to there."""
    return html.Div(acts(state, place), id=acts_id(state.experiment, place))


def acts(state: ExperimentState, place: str) -> list[Any]:
    """Return the content of that part."""
    buttons = [*_keeping(state, place), *_artifact(state, place), _button(state, place, PUBLISH)]
    if place != "experiments":
        buttons.append(
            link_button("Details", "/experiments", icon="experiments", experiment=state.experiment, run=state.run)
        )
    ended_by = state.ended.undone_by if state.ended is not None else None
    words = keep_words(state.proven, state.verdict, state.keep is not None, ended_by or "")
    status = badge("kept", "teal") if state.keep is not None else badge("not kept")
    about = [] if state.run is None else [dmc.Group([status, dmc.Text(words, size="sm", flex=1, miw=200)], gap="xs")]
    why = needs_role("keeping, exporting or publishing" if state.proven else "publishing")
    rest = [*_export_state(state), *_links(state), _commands(state)]
    return [dmc.Stack([*about, dmc.Group(buttons, gap="xs"), *why, *rest])]


def _keeping(state: ExperimentState, place: str) -> list[Any]:
    if not state.proven:
        return []
    return [_button(state, place, UNDO if state.keep is not None else KEEP)]


def _artifact(state: ExperimentState, place: str) -> list[Any]:
    if not state.proven:
        return []
    busy = state.export is not None and state.export.live
    formats = [(state.artifact, "Download the artifact", EXPORT)]
    formats += [(state.onnx, "Download the ONNX model", EXPORT_ONNX)] if state.has_onnx else []
    return [
        download_button(text, f"/api/artifacts/{made.id}.zip")
        if made is not None
        else _button(state, place, act, disabled=busy)
        for made, text, act in formats
    ]


def _export_state(state: ExperimentState) -> list[Any]:
    job = state.export
    if job is None or state.exported is not None:
        return []
    if job.live:
        return [job_progress(job)]
    if job.state == "failed":
        return [problem(job.error, title="The export failed")]
    return []


def _links(state: ExperimentState) -> list[Any]:
    lines: list[Any] = []
    for label, made in (("Artifact", state.artifact), ("ONNX", state.onnx)):
        if made is not None:
            lines.append(_line(label, link(made.id, "/artifacts", artifact=made.id)))
    lines += [
        _line("Report", link(str(item.summary.get("title") or item.id), "/reports", report=item.id))
        for item in state.reports[:3]
    ]
    return [dmc.Stack(lines, gap=2)] if lines else []


def _line(label: str, content: Any) -> html.Div:
    return html.Div([html.Span(f"{label}: ", className="hb-line-label"), content], className="hb-break")


def _commands(state: ExperimentState) -> Any:
    id = state.experiment
    lines = [f"hotbench publish {id}", f"hotbench report {id} -o report.html"]
    if state.proven:
        undo = " --undo" if state.keep is not None else ""
        lines = [f"hotbench keep {id}{undo}", f"hotbench export {id} -o artifact", *lines]
    if state.has_onnx:
        lines.insert(2, f"hotbench export {id} --format onnx -o onnx")
    return commands(*lines)


_BUTTONS = {
    KEEP: ("Keep again", "redo"),
    UNDO: ("Undo", "undo"),
    EXPORT: ("Export the artifact", "artifacts"),
    EXPORT_ONNX: ("Export as ONNX", "artifacts"),
    PUBLISH: ("Publish a report", "reports"),
}


def _button(state: ExperimentState, place: str, act: str, disabled: bool = False) -> dmc.Button:
    text, drawing = _BUTTONS[act]
    return dmc.Button(
        "Keep" if act == KEEP and state.ended is None else text,
        id={"part": ACT, "experiment": state.experiment, "place": place, "act": act},
        leftSection=icon(drawing, 16),
        variant="default",
        disabled=disabled or not allowed(),
    )
