"""What pages show of published reports: where a review stands, and what a remark is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from app.author import same_person
from app.store.entry import Entry
from app.store.reviews import APPROVE, Review
from app.units import milliseconds

if TYPE_CHECKING:
    from analyzer.diagnosis.finding import Diagnosis
    from analyzer.run import Run

Standing = Literal["open", "approved", "changes requested", "outdated"]
MOST_OPS = 100
WHOLE = "the whole report"


@dataclass(frozen=True, slots=True)
class ReviewView:
    """One decision. about: which artifact it is bound to, in words; outdated: that is no longer the latest one."""

    author: str
    created: str
    approved: bool
    text: str
    about: str
    outdated: bool
    self_made: bool

    @property
    def word(self) -> str:
        """Return the decision in words."""
        if not self.approved:
            return "requested changes"
        return "self-approved" if self.self_made else "approved"


@dataclass(frozen=True, slots=True)
class ReviewState:
    """Where the review of one report stands: what each person said last, about the artifact as it is now."""

    standing: Standing
    words: str
    reviews: tuple[ReviewView, ...]


@dataclass(frozen=True, slots=True)
class Anchor:
    """What a remark is about. path and query lead to where it is shown; "" for the whole report."""

    value: str
    label: str
    path: str = ""
    query: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One line of the list."""

    id: str
    title: str
    about: str
    value: str
    published_by: str
    created: str
    standing: Standing


def current_digest(report: Entry, entries: Iterable[Entry]) -> str:
    """Return the digest of the newest artifact of what the report is about; "" if there is none."""
    for entry in entries:
        if entry.kind == "artifact" and entry.parent == report.parent:
            return entry.digest
    return ""


def review_state(report: Entry, reviews: Sequence[Review], digest: str) -> ReviewState:
    """Return where the review stands; `digest` is the artifact's as it is now, "" if there is none."""
    publisher = str(report.summary.get("published_by", ""))
    views = tuple(_review(review, publisher, digest) for review in reviews)
    latest = {view.author: view for view in views}.values()
    standing, words = _standing([view for view in latest if not view.outdated], list(latest))
    return ReviewState(standing, words, views)


def _review(review: Review, publisher: str, digest: str) -> ReviewView:
    return ReviewView(
        author=review.author,
        created=review.created,
        approved=review.decision == APPROVE,
        text=review.text,
        about=_about(review.artifact_digest),
        outdated=review.artifact_digest != digest,
        self_made=same_person(review.author, publisher),
    )


def _about(digest: str) -> str:
    return f"artifact {digest[:12]}" if digest else "the report alone: no artifact had been exported"


def _standing(valid: Sequence[ReviewView], everybody: Sequence[ReviewView]) -> tuple[Standing, str]:
    against = [view.author for view in valid if not view.approved]
    if against:
        return "changes requested", f"{', '.join(against)} asked for changes."
    others = [view.author for view in valid if view.approved and not view.self_made]
    own = [view.author for view in valid if view.approved and view.self_made]
    if others:
        return "approved", f"Approved by {', '.join(others)}."
    if own:
        return "approved", f"Self-approved by {own[0]}, who published it: nobody else has looked at it yet."
    if everybody:
        return "outdated", "Every decision was about another artifact than the one there is now: review it again."
    return "open", "Nobody has decided on it yet."


def artifact_words(report: Entry, digest: str) -> tuple[str, bool]:
    """Return in words which artifact a decision would be bound to, and whether it changed since publication."""
    published = str(report.summary.get("artifact_digest", ""))
    if not digest and not published:
        return "No artifact has been exported: a decision now is about the report alone.", False
    if digest == published:
        return f"A decision is bound to the artifact {digest[:12]}, the one there was at publication.", False
    if not published:
        return f"An artifact was exported after publication: a decision is bound to {digest[:12]}.", True
    if not digest:
        return f"The artifact {published[:12]} that it was published with is gone from the store.", True
    return (
        f"The artifact changed since publication: it was {published[:12]}, a decision is bound to {digest[:12]}.",
        True,
    )


def report_rows(entries: Sequence[Entry], reviews: Mapping[str, Sequence[Review]]) -> tuple[ReportRow, ...]:
    """Return the list of reports, the newest first."""
    return tuple(
        ReportRow(
            id=entry.id,
            title=str(entry.summary.get("title") or entry.name),
            about=str(entry.summary.get("about", "")),
            value=entry.parent or "",
            published_by=str(entry.summary.get("published_by", "")),
            created=entry.created,
            standing=review_state(entry, reviews.get(entry.id, ()), current_digest(entry, entries)).standing,
        )
        for entry in entries
        if entry.kind == "report"
    )


def anchors(run: Run, diagnosis: Diagnosis, asked: str = "") -> tuple[Anchor, ...]:
    """Return what a remark can be about: the whole, the findings, the ops that take most time, and what is asked."""
    found = [Anchor("", WHOLE)]
    found += [read_anchor(f"finding:{item.id}", run, diagnosis) for item in diagnosis.findings]
    timed = [op for op in run.graph.ops if op.self_seconds is not None]
    timed.sort(key=lambda op: -(op.self_seconds.median if op.self_seconds is not None else 0.0))
    found += [read_anchor(f"op:{op.index}", run, diagnosis) for op in timed[:MOST_OPS]]
    if asked and asked not in {anchor.value for anchor in found} and knows_anchor(asked, run, diagnosis):
        found.insert(1, read_anchor(asked, run, diagnosis))
    return tuple(found)


def read_anchor(value: str, run: Run, diagnosis: Diagnosis) -> Anchor:
    """Return an anchor with the words and the address for it; one that the run does not know keeps its own text."""
    kind, _, rest = value.partition(":")
    if kind == "finding":
        title = next((item.title for item in diagnosis.findings if item.id == rest), rest)
        return Anchor(value, f"Finding: {title}", "/", {"run": run.id, "finding": rest})
    if kind == "op" and rest.isdigit():
        index = int(rest)
        ops = run.graph.ops
        if index >= len(ops):
            return Anchor(value, f"Op {rest}, which the run does not have")
        op = ops[index]
        seconds = f", {milliseconds(op.self_seconds.median)}" if op.self_seconds is not None else ""
        return Anchor(value, f"Op {rest}: {op.name}{seconds}", "/operators", {"run": run.id, "op": rest})
    return Anchor(value, value or WHOLE)


def knows_anchor(value: str, run: Run, diagnosis: Diagnosis) -> bool:
    """Return whether the run has the op, or the diagnosis the finding, that an anchor names."""
    kind, _, rest = value.partition(":")
    if kind == "op":
        return rest.isdigit() and int(rest) < len(run.graph.ops)
    return kind == "finding" and any(item.id == rest for item in diagnosis.findings)
