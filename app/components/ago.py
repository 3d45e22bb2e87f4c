"""When something was, as people say it."""

from __future__ import annotations

from datetime import UTC, datetime

from dash import html

from app.units import moment

_STEPS = ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h"), (86_400 * 30, 86_400, "d"))


def ago_words(created: str, now: datetime | None = None) -> str:
    """Return "12 min ago" for an ISO 8601 time; the date from a month on, the text itself when it is no time."""
    try:
        value = datetime.fromisoformat(created)
    except ValueError:
        return moment(created)
    seconds = ((now or datetime.now(UTC)) - (value if value.tzinfo else value.replace(tzinfo=UTC))).total_seconds()
    if seconds < 10:
        return "just now"
    for below, size, unit in _STEPS:
        if seconds < below:
            return f"{int(seconds // size)} {unit} ago"
    return value.strftime("%Y-%m-%d")


def ago(created: str) -> html.Time:
    """Return the time in words; the exact one shows on hover, and assets/ago.js keeps the words true."""
    return html.Time(ago_words(created), dateTime=created, title=moment(created), className="hb-ago")
