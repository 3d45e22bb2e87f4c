"""The optimized models that were exported: what is in them, their hashes, how to load them, and the download."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, html

from app.components.ago import ago
from app.components.badge import badge, verdict_badge
from app.components.card import page_heading, section
from app.components.command import command_line, copy_button
from app.components.empty import empty, note, problem
from app.components.facts import facts
from app.components.links import download_button, link, link_button
from app.components.table import table
from app.store.verified import entry_of_kind
from app.units import mebibytes, plural
from app.views.artifacts import ArtifactView, artifact_view
from app.web.context import context

PATH = "/artifacts"
TITLE = "Artifacts"
ICON = "artifacts"
NEEDS_RUN = False
_ABOUT = "An artifact is the optimized model as a folder. It loads with torch and numba alone, without Hotbench."


def layout(query: Mapping[str, str]) -> Any:
    """Return the list, or the artifact in the address."""
    store = context().store
    entries = store.entries()
    if query.get("artifact"):
        entry = entry_of_kind(store, "artifact", query["artifact"])
        return _detail(artifact_view(store, entry, entries))
    views = [artifact_view(store, entry, entries) for entry in entries if entry.kind == "artifact"]
    if not views:
        act = link_button("To the experiments", "/experiments", icon="experiments", primary=True)
        text = "Export one from an experiment that proved a model faster or smaller: one click on its page."
        return dmc.Stack([page_heading("Artifacts", _ABOUT), empty("No artifact yet", text, act)], gap="md")
    listed = table(
        "Artifacts, the newest first",
        ("Artifact", "Download", "Proven by", "Size", "Files", "SHA-256", "When"),
        [_row(view) for view in views],
        numeric=("Files", "Size"),
    )
    return dmc.Stack([page_heading("Artifacts", _ABOUT), section("Exported models", listed)], gap="md")


def _row(view: ArtifactView) -> list[Any]:
    proof = link(verdict_badge(view.verdict or "experiment"), "/experiments", experiment=view.experiment, run=view.run)
    return [
        link(view.name, "/artifacts", artifact=view.id, run=view.run),
        # Beside the name: where it is narrow, the rest is out of sight.
        _download(view) if not view.problem else badge("damaged", "red"),
        proof if view.experiment else "–",
        mebibytes(view.total_bytes),
        f"{len(view.files)}",
        html.Span(view.digest[:12], className="hb-mono", title=view.digest),
        ago(view.created),
    ]


def _download(view: ArtifactView) -> Any:
    return download_button("Download", f"/api/artifacts/{view.id}.zip")


def _detail(view: ArtifactView) -> Any:
    back = dmc.Group([link("All artifacts", "/artifacts"), *_experiment(view)], gap="md")
    about = [ago(view.created), html.Br(), html.Span(view.id, className="hb-mono")]
    warning = [] if not view.problem else [problem(f"This artifact is damaged: {view.problem}.")]
    return dmc.Stack(
        [page_heading(view.name, about, back), *warning, _what(view), _load(view), _files(view)],
        gap="md",
    )


def _experiment(view: ArtifactView) -> list[Any]:
    return [] if view.experiment is None else [link("Its experiment", "/experiments", experiment=view.experiment)]


def _what(view: ArtifactView) -> Any:
    error = "not recorded" if view.reload_error is None else f"{view.reload_error:.3g}"
    rows = [
        ("Proven", verdict_badge(view.verdict) if view.verdict else "–", "by its experiment"),
        ("Size", mebibytes(view.total_bytes), plural(len(view.files), "file")),
        ("Error after reload", error, "largest absolute difference, measured in a fresh process at export"),
    ]
    digest = dmc.Group(
        [html.Span(view.digest, className="hb-mono hb-break"), copy_button(view.digest, "Copy the SHA-256")], gap="xs"
    )
    named = dmc.Stack([html.Span("SHA-256 of its manifest", className="hb-line-label"), digest], gap=2)
    act = [] if view.problem else [dmc.Group([download_button("Download as zip", f"/api/artifacts/{view.id}.zip")])]
    words = "Every file is checked against its hash before the download begins; a changed one is refused."
    form = "" if view.format == "torch" else f" --format {view.format}"
    same = [command_line(f"hotbench export {view.experiment}{form} -o artifact")] if view.experiment else []
    return section("The model", facts(rows), named, *act, dmc.Text(words, size="sm", c="dimmed"), *same)


def _load(view: ArtifactView) -> Any:
    code = html.Pre(html.Code(view.loads_with), className="hb-code", tabIndex=0)
    box = html.Div([code, copy_button(view.loads_with, "Copy the lines")], className="hb-code-box")
    onnx = view.format == "onnx"
    needed = "onnxruntime" if onnx else "torch and numba"
    words = f"Unpack the zip; then, beside the unpacked folder and with {needed} installed:"
    about = (
        "check.py beside it compares onnxruntime's outputs with the stored ones."
        if onnx
        else "The kernels are compiled at the first load, for the machine it is loaded on."
    )
    return section("Load it", box, note(about), text=words)


def _files(view: ArtifactView) -> Any:
    rows = [
        (html.Span(file.name, className="hb-mono"), mebibytes(file.bytes), html.Span(file.sha256, className="hb-mono"))
        for file in view.files
    ]
    return section("Files", table("Files of the artifact", ("File", "Size", "SHA-256"), rows, numeric=("Size",)))


def register(app: Dash) -> None:
    """Declare nothing: an artifact is only shown and downloaded."""
