"""`hotbench review REPORT`: read what was said of a published report; add a remark or a decision."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from analyzer.errors import HotbenchError
from app.terminal import Terminal

if TYPE_CHECKING:
    from rich.console import RenderableType

    from app.store import Entry, Store
    from app.store.reviews import Comment
    from app.views.report import Anchor, ReviewState

NAME = "review"
HELP = "read what was said of a published report; comment, approve or ask for changes"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the report and what to say of it."""
    parser.add_argument("report", metavar="REPORT", help='a report\'s id, a beginning of it, or "latest"')
    said = parser.add_mutually_exclusive_group()
    said.add_argument("--comment", metavar="TEXT", help="add a remark")
    said.add_argument("--approve", action="store_true", help="approve it, with the artifact that there is now")
    said.add_argument("--request-changes", dest="changes", metavar="REASON", help="ask for changes")
    parser.add_argument("--at", metavar="op:17|finding:ID", help="what the remark is about (default: the whole)")
    parser.add_argument("--reason", metavar="TEXT", help="why you approve")


def run(options: argparse.Namespace) -> int:
    """Add what was given, and print where the review stands."""
    from app import workbench
    from app.store import open_store

    _check(options)
    terminal = Terminal(options.json)
    with open_store(options.store) as store:
        report = store.find(options.report, ("report",))
        done = _act(store, report, options)
        remarks = _remarks(store, workbench.run_entry_of(store, report))
        data, people = _said(store, report, remarks)
    terminal.result(data, *done, *people)
    return 0


def _check(options: argparse.Namespace) -> None:
    if options.at is not None and options.comment is None:
        raise HotbenchError(f"--at {options.at}: it goes with --comment TEXT")
    if options.reason is not None and not options.approve:
        raise HotbenchError("--reason goes with --approve; --request-changes has its own reason")


def _act(store: Store, report: Entry, options: argparse.Namespace) -> list[str]:
    """Do what the options ask for; return it in words."""
    from app import workbench
    from app.author import command_line_author
    from app.store.reviews import APPROVE, REQUEST_CHANGES, add_comment

    if options.comment is not None:
        _check_anchor(store, report, options.at or "")
        comment = add_comment(store, report.id, options.at or "", command_line_author(), options.comment)
        return [f"added remark {comment.id} by {comment.author}", ""]
    if options.approve or options.changes is not None:
        decision = APPROVE if options.approve else REQUEST_CHANGES
        text = (options.reason or "") if options.approve else options.changes
        review = workbench.decide_on(store, report, decision, command_line_author(), text)
        bound = f"artifact {review.artifact_digest[:12]}" if review.artifact_digest else "the report alone"
        return [f"wrote down: {decision} by {review.author}, about {bound}", ""]
    return []


def _check_anchor(store: Store, report: Entry, anchor: str) -> None:
    """Raises HotbenchError for an op or a finding that the report's run does not have."""
    from app import workbench
    from app.views.report import knows_anchor

    if anchor:
        run, diagnosis = workbench.read_diagnosis(store, workbench.run_entry_of(store, report).id)
        if not knows_anchor(anchor, run, diagnosis):
            raise HotbenchError(
                f"--at {anchor[:60]}: {run.id} has no such op or finding; `hotbench diagnose {run.id} --json` has ids"
            )


def _remarks(store: Store, run: Entry) -> Any:
    """Return a function from an anchor to what it is about; the run is loaded when the first one is asked for."""
    from functools import cache

    from app import workbench
    from app.views.report import read_anchor

    @cache
    def values() -> Any:
        return workbench.read_diagnosis(store, run.id)

    def about(anchor: str) -> Anchor:
        return read_anchor(anchor, *values())

    return about


def _said(store: Store, report: Entry, about: Any) -> tuple[dict[str, Any], list[RenderableType]]:
    from app.store.reviews import comments, reviews
    from app.units import printable
    from app.views.report import current_digest, review_state

    remarks = [(comment, about(comment.anchor).label) for comment in comments(store, report.id)]
    state = review_state(report, reviews(store, report.id), current_digest(report, store.entries()))
    data = {
        "report": report.id,
        "title": report.name,
        "standing": state.standing,
        "words": state.words,
        "comments": [_comment(comment, label) for comment, label in remarks],
        "reviews": _reviews(state),
    }
    lines: list[RenderableType] = [f"{report.id}  {printable(report.name)}", f"{state.standing}: {state.words}"]
    for view in state.reviews:
        outdated = " (outdated: the artifact is another one now)" if view.outdated else ""
        lines += ["", f"{view.author} {view.word} {view.created[:16]} UTC, about {view.about}{outdated}"]
        lines += [f"  {printable(view.text)}"] if view.text else []
    for comment, label in remarks:
        lines += ["", f"{comment.author} {comment.created[:16]} UTC on {printable(label)}"]
        lines += [f"  {printable(line)}" for line in comment.text.splitlines()]
    return data, lines if state.reviews or remarks else [*lines, "no remark yet"]


def _comment(comment: Comment, label: str) -> dict[str, Any]:
    names = ("id", "anchor", "author", "created", "text")
    return {**{name: getattr(comment, name) for name in names}, "about": label}


def _reviews(state: ReviewState) -> list[dict[str, Any]]:
    return [
        {
            "author": view.author,
            "created": view.created,
            "decision": "approve" if view.approved else "request-changes",
            "self_approved": view.approved and view.self_made,
            "outdated": view.outdated,
            "about": view.about,
            "text": view.text,
        }
        for view in state.reviews
    ]
