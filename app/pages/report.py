"""Published reports: read them, talk about them, approve them or ask for changes. Nobody can change one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.exceptions import PreventUpdate

from analyzer.diagnosis.finding import Diagnosis
from analyzer.errors import HotbenchError
from analyzer.run import Run
from app import workbench
from app.author import same_person
from app.components.ago import ago
from app.components.badge import verdict_badge
from app.components.card import page_heading, section
from app.components.command import command_line, commands, copy_button
from app.components.discussion import comment_form, comment_list, review_form, review_list, standing_badge
from app.components.document import document, document_facts
from app.components.empty import note
from app.components.icons import icon
from app.components.links import download_button, href, link, link_button
from app.components.table import table
from app.reports.publish import Published, load_published
from app.store import Entry, Store
from app.store.reviews import APPROVE, REQUEST_CHANGES, add_comment, all_reviews, comments, reviews
from app.store.verified import entry_of_kind, verified
from app.views.loaded import loaded_diagnosis, loaded_run
from app.views.report import (
    Anchor,
    ReportRow,
    anchors,
    artifact_words,
    current_digest,
    read_anchor,
    report_rows,
    review_state,
)
from app.web.access import person, require
from app.web.context import context

PATH = "/reports"
TITLE = "Reports"
ICON = "reports"
NEEDS_RUN = False
_ABOUT = "A published report is a record: nobody can change it. Remarks and decisions stand beside it."
_MOST_VALUES = 200


def layout(query: Mapping[str, str]) -> Any:
    """Return the list with the form that publishes, or the report in the address."""
    if query.get("report"):
        return _detail(query["report"], query.get("anchor", ""))
    store = context().store
    entries = store.entries()
    rows = report_rows(entries, all_reviews(store))
    parts: list[Any] = [page_heading("Reports", _ABOUT)]
    if rows:
        listed = table(
            "Reports, the newest first",
            ("Report", "About", "Review", "Published by", "When"),
            [_row(row) for row in rows],
        )
        parts.append(section("Published reports", listed))
    return dmc.Stack([*parts, _publish_form(entries, query)], gap="md")


def _row(row: ReportRow) -> list[Any]:
    path, query = _address(row.about, row.value)
    title = link(row.title, "/reports", report=row.id)
    return [title, link(row.about, path, **query), standing_badge(row.standing), row.published_by, ago(row.created)]


def _address(about: str, value: str) -> tuple[str, dict[str, str]]:
    return ("/", {"run": value}) if about == "run" else ("/experiments", {"experiment": value})


def _publish_form(entries: tuple[Entry, ...], query: Mapping[str, str]) -> Any:
    values = [entry for entry in entries if entry.kind in ("run", "experiment")][:_MOST_VALUES]
    if not values:
        words = "There is nothing to report on yet: capture a workload first."
        return section("Publish a report", link_button("To the runs", "/runs", primary=True), text=words)
    if not person().may("editor"):
        return note("You may read every report. To publish one, ask an admin for the role of an editor.")
    data = [{"value": entry.id, "label": f"{entry.kind}: {entry.name} ({entry.id})"} for entry in values]
    asked = query.get("value") or query.get("run") or ""
    chosen = asked if asked in {entry.id for entry in values} else values[0].id
    fields = dmc.SimpleGrid(
        [
            dmc.Select(
                id="report-value", label="Run or experiment", data=data, value=chosen, searchable=True,
                allowDeselect=False, maxDropdownHeight=320, nothingFoundMessage="Nothing of that name",
            ),
            dmc.TextInput(id="report-title", label="Title", value="", placeholder="the value's own name"),
        ],
        cols={"base": 1, "sm": 2},
    )  # fmt: skip
    act = dmc.Button("Publish", id="report-publish", leftSection=icon("reports", 16))
    words = "It holds every figure as it is now, as one HTML file that works offline, with its hash."
    return section("Publish a report", fields, dmc.Group([act]), html.Div(id="report-command"), text=words)


def _detail(id: str, anchor: str) -> Any:
    store = context().store
    found = verified(store, "report", id)
    published = load_published(found.folder)
    run = run_of(store, found.entry)
    diagnosis = loaded_diagnosis(store, run.id)
    figures = {name: go.Figure(value, skip_invalid=True) for name, value in published.figures.items()}
    main = [
        _record(found.entry, published),
        section("Main figures", document_facts(published.document.cards), right=_verdict(published)),
        *document(published.document, figures, found.entry.id),
    ]
    side = [_review_section(store, found.entry), _discussion(store, found.entry, run, diagnosis, anchor)]
    return dmc.Stack(
        [
            page_heading(published.about.title, _subtitle(published), _links(found.entry.id)),
            dmc.Grid(
                [
                    dmc.GridCol(dmc.Stack(main, gap="md"), span={"base": 12, "lg": 8}),
                    dmc.GridCol(dmc.Stack(side, gap="md", className="hb-side"), span={"base": 12, "lg": 4}),
                ],
                gutter="md",
            ),
            dcc.Store(id="report-shown", data=found.entry.id),
        ],
        gap="md",
    )


def run_of(store: Store, report: Entry) -> Run:
    """Return the run that a report is about, directly or through its experiment."""
    return loaded_run(store, workbench.run_entry_of(store, report).id)


def _subtitle(published: Published) -> list[Any]:
    about = published.about
    return [published.document.subtitle, html.Br(), f"Published by {about.published_by}, ", ago(about.created)]


def _links(id: str) -> dmc.Group:
    return dmc.Group(
        [
            link("All reports", "/reports"),
            # Beside the report where there is room; below all of it where there is not.
            html.A("Review and remarks", href="#review", className="hb-to-side"),
            _open(f"/api/reports/{id}.html"),
            download_button("Save as HTML", f"/api/reports/{id}.html", download="1"),
            download_button("Save as Markdown", f"/api/reports/{id}.md"),
        ],
        gap="xs",
    )


def _open(address: str) -> dmc.Anchor:
    content = [icon("external", 16), "Open as published"]
    return dmc.Anchor(content, href=address, className="hb-button", underline="never", refresh=True, target="_blank")


def _record(entry: Entry, published: Published) -> Any:
    path, query = _address(str(entry.summary.get("about", "")), published.about.value)
    artifact = published.about.artifact
    exported = link(artifact, "/artifacts", artifact=artifact) if artifact else "none had been exported"
    lines = [
        _line("About", link(published.about.value, path, **query)),
        _line("Artifact at publication", exported),
        _line("SHA-256 of the HTML", html.Span(published.html_sha256, className="hb-mono hb-break")),
    ]
    top = dmc.Group([dmc.Stack(lines, gap=4, flex=1, miw=0), copy_button(published.html_sha256, "Copy the SHA-256")])
    same = command_line(f"hotbench report {published.about.value} -o report.html", "A report of the same value")
    return section("The record", top, same)


def _line(label: str, content: Any) -> html.Div:
    return html.Div([html.Span(f"{label}: ", className="hb-line-label"), content], className="hb-break")


def _verdict(published: Published) -> Any:
    return verdict_badge(published.document.verdict) if published.document.verdict else None


def _review_section(store: Store, entry: Entry) -> Any:
    return section("Review", html.Div(review_box(store, entry), id="review-box"), id="review")


def review_box(store: Store, entry: Entry) -> Any:
    """Return where the review stands, and the form for a decision where the person may decide."""
    entries = store.entries()
    digest = current_digest(entry, entries)
    state = review_list(review_state(entry, reviews(store, entry.id), digest))
    who = person()
    if not who.may("editor"):
        return dmc.Stack([state, note("You may read. To decide, ask an admin for the role of an editor.")])
    words, changed = artifact_words(entry, digest)
    start = f"hotbench review {entry.id}"
    same = commands(f"{start} --approve", f"{start} --request-changes REASON", start)
    own = same_person(who.name, str(entry.summary.get("published_by", "")))
    return dmc.Stack([state, review_form(words, changed, own), same], gap="md")


def _discussion(store: Store, entry: Entry, run: Run, diagnosis: Diagnosis, anchor: str) -> Any:
    choices = anchors(run, diagnosis, anchor)
    chosen = anchor if anchor in {choice.value for choice in choices} else ""
    parts: list[Any] = [html.Div(discussion_list(store, entry, run, diagnosis), id="comment-list")]
    if person().may("editor"):
        command = html.Div(id="comment-command")
        parts += [comment_form(choices, chosen), command]
    else:
        parts.append(note("You may read. To add a remark, ask an admin for the role of an editor."))
    return section("Remarks", *parts)


def discussion_list(store: Store, entry: Entry, run: Run, diagnosis: Diagnosis) -> Any:
    """Return the remarks on a report."""
    said = comments(store, entry.id)
    known: dict[str, Anchor] = {item.anchor: read_anchor(item.anchor, run, diagnosis) for item in said}
    return comment_list(said, known)


def register(app: Dash) -> None:
    """Declare publishing, remarks and decisions."""

    @app.callback(
        Output("address", "href"),
        Input("report-publish", "n_clicks"),
        State("report-value", "value"),
        State("report-title", "value"),
        prevent_initial_call=True,
    )
    def _publish(clicks: int | None, value: str | None, title: str | None) -> str:
        if not clicks:
            raise PreventUpdate
        who = require("editor")
        if not value:
            raise HotbenchError("nothing is chosen to report on; choose a run or an experiment")
        return href("/reports", report=workbench.publish(context().store, value, who.name, title or "").id)

    @app.callback(Output("report-command", "children"), Input("report-value", "value"), Input("report-title", "value"))
    def _command(value: str | None, title: str | None) -> Any:
        return command_line(publish_command(value, title or "")) if value else None

    @app.callback(
        Output("comment-command", "children"), Input("comment-anchor", "value"), State("report-shown", "data")
    )
    def _comment_command(anchor: str | None, report: str) -> Any:
        at = "" if anchor in (None, "whole") else f" --at {shlex.quote(str(anchor))}"
        return command_line(f"hotbench review {report} --comment TEXT{at}")

    @app.callback(
        Output("comment-list", "children"),
        Output("comment-text", "value"),
        Input("comment-add", "n_clicks"),
        State("report-shown", "data"),
        State("comment-anchor", "value"),
        State("comment-text", "value"),
        prevent_initial_call=True,
    )
    def _comment(clicks: int | None, report: str, anchor: str | None, text: str | None) -> Any:
        if not clicks:
            return no_update, no_update
        who = require("editor")
        store = context().store
        entry = entry_of_kind(store, "report", report)
        add_comment(store, entry.id, "" if anchor in (None, "whole") else str(anchor), who.name, text or "")
        run = run_of(store, entry)
        return discussion_list(store, entry, run, loaded_diagnosis(store, run.id)), ""

    @app.callback(
        Output("review-box", "children"),
        Input("review-approve", "n_clicks"),
        Input("review-changes", "n_clicks"),
        State("report-shown", "data"),
        State("review-text", "value"),
        prevent_initial_call=True,
    )
    def _review(approved: int | None, changes: int | None, report: str, text: str | None) -> Any:
        if not (approved or changes):
            return no_update
        decision = APPROVE if ctx.triggered_id == "review-approve" else REQUEST_CHANGES
        store = context().store
        entry = entry_of_kind(store, "report", report)
        decide(store, entry, decision, text or "")
        return review_box(store, entry)


def publish_command(value: str, title: str) -> str:
    """Return the command that does the same as the button."""
    named = " ".join(title.split())
    return f"hotbench publish {value}" + (f" --title {shlex.quote(named)}" if named else "")


def decide(store: Store, report: Entry, decision: str, text: str) -> None:
    """Write down a decision of the person of this request, bound to the artifact as it lies in the store now.

    Raises Forbidden for a viewer, RecordError where the report or the artifact is not as it was saved.
    """
    workbench.decide_on(store, report, decision, require("editor").name, text)
