"""What people say of a report: remarks with what they are about, and decisions bound to an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import html

from app.components.ago import ago
from app.components.badge import badge
from app.components.empty import note
from app.components.icons import icon
from app.components.links import link
from app.store.reviews import LONGEST_TEXT, Comment
from app.views.report import Anchor, ReviewState, ReviewView

STANDING_COLOURS = {"approved": "teal", "changes requested": "orange", "outdated": "gray", "open": "gray"}


def standing_badge(standing: str) -> dmc.Badge:
    """Return where a review stands, in one word."""
    return badge(standing, STANDING_COLOURS.get(standing, "gray"))


def comment_list(comments: Sequence[Comment], known: Mapping[str, Anchor]) -> Any:
    """Return the remarks, the oldest first, each with a link to what it is about."""
    if not comments:
        return dmc.Text("No remark yet.", size="sm", c="dimmed")
    return html.Ol([_comment(comment, known[comment.anchor]) for comment in comments], className="hb-thread")


def _comment(comment: Comment, anchor: Anchor) -> html.Li:
    about: Any = anchor.label
    if anchor.path:
        about = link(anchor.label, anchor.path, **dict(anchor.query or {}))
    head = [html.Strong(comment.author), ago(comment.created), html.Span(["on ", about], className="hb-dim hb-break")]
    return html.Li([dmc.Group(head, gap="xs"), html.Div(comment.text, className="hb-said")], id=f"comment-{comment.id}")


def comment_form(choices: Sequence[Anchor], chosen: str) -> dmc.Stack:
    """Return the form for a remark; `chosen` is the anchor in the address."""
    data = [{"value": choice.value or "whole", "label": choice.label} for choice in choices]
    return dmc.Stack(
        [
            dmc.Select(
                id="comment-anchor",
                label="About",
                data=data,
                value=chosen or "whole",
                searchable=True,
                allowDeselect=False,
                nothingFoundMessage="Nothing of that name; any op can be chosen on the Operators page",
                maxDropdownHeight=320,
            ),
            dmc.Textarea(
                id="comment-text", label="Remark", autosize=True, minRows=3, maxRows=12, value="",
                placeholder="What did you notice?", inputProps={"maxLength": LONGEST_TEXT},
            ),
            dmc.Group([dmc.Button("Add the remark", id="comment-add", leftSection=icon("comment", 16),
                                  variant="default")]),
        ],
        gap="sm",
    )  # fmt: skip


def review_list(state: ReviewState) -> Any:
    """Return where the review stands, and every decision with the artifact that it is bound to."""
    head = dmc.Group([standing_badge(state.standing), dmc.Text(state.words, size="sm", flex=1, miw=160)], gap="xs")
    if not state.reviews:
        return head
    return dmc.Stack([head, html.Ol([_review(view) for view in state.reviews], className="hb-thread")], gap="sm")


def _review(view: ReviewView) -> html.Li:
    mark = badge("outdated") if view.outdated else badge(view.word, "teal" if view.approved else "orange")
    words: list[Any] = [html.Strong(view.author), f" {view.word}, about {view.about}"]
    lines: list[Any] = [dmc.Group([mark, html.Span(words, className="hb-break"), ago(view.created)], gap="xs")]
    if view.outdated:
        lines.append(
            dmc.Text("The artifact is another one now: this decision no longer counts.", size="sm", c="dimmed")
        )
    if view.text:
        lines.append(html.Div(view.text, className="hb-said"))
    return html.Li(lines)


def review_form(words: str, changed: bool, own: bool) -> dmc.Stack:
    """Return the form for a decision; `words` say what it is bound to, `own`: whoever asks published the report."""
    remarks = [note(words, colour="orange" if changed else "gray", icon="warning" if changed else "info")]
    if own:
        remarks.append(note("You published this report: your approval will be marked as self-approved."))
    approve = "Self-approve" if own else "Approve"
    return dmc.Stack(
        [
            *remarks,
            dmc.Textarea(
                id="review-text", label="Reason", description="needed when you ask for changes", autosize=True,
                minRows=2, maxRows=10, value="", inputProps={"maxLength": LONGEST_TEXT},
            ),
            dmc.Group(
                [
                    dmc.Button(approve, id="review-approve", leftSection=icon("check", 16)),
                    dmc.Button("Ask for changes", id="review-changes", variant="default",
                               leftSection=icon("edit", 16)),
                ],
                gap="xs",
            ),
        ],
        gap="sm",
    )  # fmt: skip
