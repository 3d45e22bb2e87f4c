"""The store's runs as rows of a list, and which of them a filter chooses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from analyzer.errors import HotbenchError
from app.store import Entry
from app.units import mebibytes, milliseconds, moment
from app.workloads import place_name

TRAINING, INFERENCE = "training", "inference"


@dataclass(frozen=True, slots=True)
class RunFilter:
    """What the list shows; "" chooses everything. search: every word is in name, id, tag, device or place."""

    search: str = ""
    device: str = ""
    mode: str = ""
    tag: str = ""
    place: str = ""


def switcher_options(entries: Sequence[Entry]) -> list[dict[str, str]]:
    """Return value and label of each run for the header's choice: name, step time, when; newest first."""
    return [{"value": entry.id, "label": run_label(entry)} for entry in entries]


def run_label(entry: Entry) -> str:
    """Return a run in one line, to choose it from a list."""
    seconds = entry.summary.get("step_seconds")
    parts = [entry.name, milliseconds(seconds) if seconds else "", moment(entry.created).removesuffix(" UTC")]
    return " · ".join(part for part in parts if part)


def run_row(entry: Entry) -> dict[str, Any]:
    """Return a run as the grid shows it: numbers to sort by, and their words."""
    summary = entry.summary
    seconds, peak = summary.get("step_seconds"), summary.get("peak_bytes")
    return {
        "id": entry.id,
        "name": entry.name,
        "mode": TRAINING if summary.get("training") else INFERENCE,
        "device": summary.get("device_name") or str(summary.get("device", "")).upper(),
        "step_seconds": seconds,
        "step_words": milliseconds(seconds),
        "peak_bytes": peak,
        "peak_words": mebibytes(peak),
        "ops": summary.get("ops"),
        "tags": list(entry.tags),
        "tag_words": ", ".join(entry.tags),
        "created": entry.created,
        "created_words": moment(entry.created).removesuffix(" UTC"),
        "place": place_name(entry),
    }


def chosen(rows: Iterable[dict[str, Any]], wanted: RunFilter) -> list[dict[str, Any]]:
    """Return the rows that the filter chooses, in their order."""
    words = wanted.search.lower().split()
    return [row for row in rows if _fits(row, wanted) and all(word in _text(row) for word in words)]


def _fits(row: dict[str, Any], wanted: RunFilter) -> bool:
    return (
        wanted.device in ("", row["device"])
        and wanted.mode in ("", row["mode"])
        and wanted.place in ("", row["place"])
        and (not wanted.tag or wanted.tag in row["tags"])
    )


def _text(row: dict[str, Any]) -> str:
    return " ".join((row["name"], row["id"], row["tag_words"], row["device"], row["place"], row["mode"])).lower()


def values_of(rows: Iterable[dict[str, Any]], name: str) -> list[str]:
    """Return the values that a column has, sorted; of tags, each single one."""
    found: set[str] = set()
    for row in rows:
        found |= set(row["tags"]) if name == "tags" else {row[name]}
    return sorted(value for value in found if value)


def filter_text(wanted: RunFilter) -> str:
    """Return the filter as the address holds it; "" when it chooses everything."""
    given = {name: value for name, value in asdict(wanted).items() if value}
    return json.dumps(given, separators=(",", ":"), sort_keys=True) if given else ""


def read_filter(text: str | None) -> RunFilter:
    """Return the filter that `filter_text` wrote. Raises HotbenchError for any other text."""
    if not text:
        return RunFilter()
    try:
        data = json.loads(text)
        known = {field.name for field in fields(RunFilter)}
        return RunFilter(**{name: str(value) for name, value in data.items() if name in known})
    except (ValueError, AttributeError, TypeError) as error:
        raise HotbenchError(f"the filter {text[:80]!r} cannot be read; open the runs without it") from error
