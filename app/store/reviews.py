"""What people say of a published report: comments and decisions. Rows are added, never changed or removed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, insert, select

from app.store import tables
from app.store.errors import StoreError

if TYPE_CHECKING:
    from app.store.store import Store

APPROVE, REQUEST_CHANGES = "approve", "request-changes"
DECISIONS = (APPROVE, REQUEST_CHANGES)
LONGEST_TEXT = 10_000
_LONGEST_ANCHOR = 200
_ANCHOR = re.compile(r"|op:\d{1,9}|finding:\S[^\x00-\x1f]*")


@dataclass(frozen=True, slots=True)
class Comment:
    """One remark. anchor: "op:17", "finding:dispatch-bound:4", or "" for the whole report."""

    id: int
    report: str
    anchor: str
    author: str
    created: str
    text: str


@dataclass(frozen=True, slots=True)
class Review:
    """One decision. It is about the artifact that had `artifact_digest` at that time; "" when there was none."""

    id: int
    report: str
    author: str
    created: str
    decision: str
    artifact_digest: str
    text: str


def add_comment(store: Store, report: str, anchor: str, author: str, text: str) -> Comment:
    """Add a remark to a published report and return it. Raises StoreError for an empty or too long one."""
    store.find(report, ("report",))
    if len(anchor) > _LONGEST_ANCHOR or _ANCHOR.fullmatch(anchor) is None:
        raise StoreError(f"no anchor {anchor[:40]!r}; write op:NUMBER or finding:ID, or leave it out")
    values = {"report": report, "anchor": anchor, "author": author, "text": _checked(text, "comment")}
    return Comment(**_insert(store, tables.comments, values))


def comments(store: Store, report: str) -> tuple[Comment, ...]:
    """Return a report's remarks, the oldest first."""
    return tuple(Comment(**row) for row in _rows(store, tables.comments, report))


def add_review(store: Store, report: str, decision: str, author: str, artifact_digest: str, text: str = "") -> Review:
    """Add a decision on a published report and return it.

    Raises StoreError for another word than those of DECISIONS, and for a request for changes that names none.
    """
    store.find(report, ("report",))
    if decision not in DECISIONS:
        raise StoreError(f"no decision {decision[:40]!r}; choose {' or '.join(DECISIONS)}")
    if decision == REQUEST_CHANGES or text.strip():
        text = _checked(text, "request for changes" if decision == REQUEST_CHANGES else "approval")
    values = {"report": report, "author": author, "decision": decision, "artifact_digest": artifact_digest}
    return Review(**_insert(store, tables.reviews, {**values, "text": text.strip()}))


def reviews(store: Store, report: str) -> tuple[Review, ...]:
    """Return a report's decisions, the oldest first."""
    return tuple(Review(**row) for row in _rows(store, tables.reviews, report))


def all_reviews(store: Store) -> dict[str, tuple[Review, ...]]:
    """Return the decisions of every report by its id, the oldest first: for lists."""
    found: dict[str, list[Review]] = {}
    for row in _rows(store, tables.reviews, None):
        found.setdefault(row["report"], []).append(Review(**row))
    return {report: tuple(rows) for report, rows in found.items()}


def _checked(text: str, what: str) -> str:
    stripped = text.strip()
    if not stripped:
        raise StoreError(f"the {what} is empty; write what you mean")
    if len(stripped) > LONGEST_TEXT:
        raise StoreError(f"the {what} has {len(stripped):,} characters; {LONGEST_TEXT:,} are the most")
    return stripped


def _insert(store: Store, table: Table, values: dict[str, Any]) -> dict[str, Any]:
    values = {**values, "created": datetime.now(UTC).isoformat(timespec="milliseconds")}
    with store.database.writing() as connection:
        key = connection.execute(insert(table).values(values)).inserted_primary_key
    assert key is not None
    return {"id": int(key[0]), **values}


def _rows(store: Store, table: Table, report: str | None) -> list[dict[str, Any]]:
    query = select(table).order_by(table.c.id)
    if report is not None:
        query = query.where(table.c.report == report)
    with store.database.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings().all()]
