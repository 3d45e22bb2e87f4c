"""What can be done with the selected runs of the list: compare, tag, delete."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update

from app.components.attributes import attributes
from app.components.command import commands
from app.components.icons import icon
from app.components.links import link, link_button
from app.components.notice import notice
from app.components.role import allowed, needs_role
from app.derived.place import discard_run
from app.store import Entry
from app.tags import MOST_TAGS, clean_tags
from app.units import plural
from app.views.runs import run_row, values_of
from app.web.access import require
from app.web.context import context


def selected(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return what can be done with the selected runs."""
    if not rows:
        return html.Div("Select a run to tag or delete it, two to compare them.", className="hb-subtitle")
    parts: list[Any] = [html.Strong(plural(len(rows), "run") + " selected")]
    if len(rows) == 2:
        before, after = sorted(rows, key=lambda row: str(row["created"]))
        parts.append(link_button("Compare", "/compare", icon="compare", before=before["id"], after=after["id"]))
    if len(rows) == 1:
        parts += [link("Open", "/", run=rows[0]["id"]), *_tag_editor(rows[0])]
    parts.append(
        dmc.Button(
            "Delete", id="runs-delete", variant="subtle", color="red", leftSection=icon("trash", 16),
            size="compact-md", disabled=not allowed(),
        )
    )  # fmt: skip
    why = needs_role("tagging or deleting")
    return dmc.Stack([html.Div(parts, className="hb-selected"), *why, commands(*_commands(rows))], gap=6)


def _commands(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    ids = [str(row["id"]) for row in rows]
    lines = [f"hotbench remove {' '.join(ids)}"]
    if len(rows) == 1:
        lines = [f"hotbench tag {ids[0]} TAG", f"hotbench tag {ids[0]} TAG --remove", *lines]
    if len(rows) == 2:
        before, after = sorted(rows, key=lambda row: str(row["created"]))
        lines.insert(0, f"hotbench compare {before['id']} {after['id']}")
    return lines


def _tag_editor(row: Mapping[str, Any]) -> list[Any]:
    known = values_of((run_row(entry) for entry in context().store.entries("run")), "tags")
    return [
        dmc.TagsInput(
            id="runs-tags", value=list(row["tags"]), data=known, maxTags=MOST_TAGS, acceptValueOnBlur=True,
            placeholder="Tags" if not row["tags"] else "", className="hb-field-wide", size="sm",
            disabled=not allowed(), **attributes(aria_label=f"Tags of {row['name']}"),
        ),
        dmc.Button("Save tags", id="runs-save-tags", variant="default", size="compact-md", leftSection=icon("tag", 16),
                   disabled=not allowed()),
    ]  # fmt: skip


def register(app: Dash) -> None:
    """Declare the acts on the selected runs. Each ends by touching the list, which is filled again."""

    @app.callback(
        Output("runs-touched", "data", allow_duplicate=True),
        Output("notify", "sendNotifications", allow_duplicate=True),
        Input("runs-save-tags", "n_clicks"),
        State("runs-tags", "value"),
        State("runs-grid", "selectedRows"),
        prevent_initial_call=True,
    )
    def _tag(clicks: int | None, tags: Sequence[str] | None, rows: Sequence[Mapping[str, Any]] | None) -> Any:
        if not clicks or not rows:
            return no_update, no_update
        entry = tag_run(str(rows[0]["id"]), tags or [])
        return time.time(), notice("Tags saved", f"{entry.name}: {', '.join(entry.tags) or 'no tags'}")

    @app.callback(
        Output("runs-dialog", "children"),
        Input("runs-delete", "n_clicks"),
        State("runs-grid", "selectedRows"),
        prevent_initial_call=True,
    )
    def _ask(clicks: int | None, rows: Sequence[Mapping[str, Any]] | None) -> Any:
        return _confirm(rows) if clicks and rows else no_update

    @app.callback(
        Output("runs-dialog", "children", allow_duplicate=True),
        Output("runs-touched", "data", allow_duplicate=True),
        Output("runs-grid", "selectedRows"),
        Output("notify", "sendNotifications", allow_duplicate=True),
        Input("runs-delete-now", "n_clicks"),
        State("runs-delete-these", "data"),
        prevent_initial_call=True,
    )
    def _delete(clicks: int | None, ids: Sequence[str] | None) -> Any:
        if not clicks or not ids:
            return no_update, no_update, no_update, no_update
        removed, held = delete_runs(ids)
        words = [f"{plural(len(removed), 'run')} deleted."] if removed else []
        words += [f"{name} stays: experiments were made from it." for name in held]
        return None, time.time(), [], notice("Runs", " ".join(words), "orange" if held else "teal")


def _confirm(rows: Sequence[Mapping[str, Any]]) -> Any:
    names = [html.Li(f"{row['name']}, captured {row['created_words']} UTC", className="hb-break") for row in rows]
    what = "this run" if len(rows) == 1 else f"these {len(rows)} runs"
    return dmc.Modal(
        [
            dcc.Store(id="runs-delete-these", data=[row["id"] for row in rows]),
            html.Ul(names, className="hb-notes"),
            html.P("Their measurements are gone then. A run that experiments were made from is not deleted."),
            dmc.Group(
                [dmc.Button("Delete", id="runs-delete-now", color="red", leftSection=icon("trash", 16))],
                justify="flex-end",
            ),
        ],
        title=f"Delete {what}?",
        opened=True,
        centered=True,
        closeButtonProps={"aria-label": "Keep the runs"},
    )


def tag_run(id: str, tags: Sequence[str]) -> Entry:
    """Give a run exactly these tags, as the person of this request; return its entry.

    Raises Forbidden for a viewer, HotbenchError for tags that are too long or too many.
    """
    require("editor")
    store = context().store
    return store.tag(store.find(id, ("run",)), clean_tags(tags))


def delete_runs(ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """Delete the runs that nothing was made from, as the person of this request; return names deleted and kept.

    Raises Forbidden for a viewer.
    """
    require("editor")
    store = context().store
    removed: list[str] = []
    held: list[str] = []
    known = {entry.id: entry for entry in store.entries("run")}
    for id in ids:
        if id in known:
            (removed if discard_run(store, known[id]) else held).append(known[id].name)
    return removed, held
