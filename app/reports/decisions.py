"""An optimizer's decisions (plain JSON of any shape) as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from app.reports.document import Table
from app.units import evidence, evidence_label

_LONGEST = 160
_MOST_ROWS = 40


def decision_tables(decisions: Mapping[str, Any]) -> list[Table]:
    """Return one table of single values, and one for each list of records, such as the choice made for each kernel."""
    records = {name: value for name, value in decisions.items() if _is_records(value)}
    single = [
        (evidence_label(name), decision_text(name, value)) for name, value in decisions.items() if name not in records
    ]
    tables = [_record_table(name, rows) for name, rows in records.items()]
    if single:
        tables.append(Table("Decisions, as they are repeated exactly", ("Decision", "Value"), tuple(single)))
    return tables


def decision_text(name: str, value: Any) -> str:
    """Return one decision for people: its unit is in its name; a long one is cut, and its length said."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return evidence(name, value) if "threads" not in name else str(value)
    if isinstance(value, Mapping) and value and all(not isinstance(item, Mapping | list) for item in value.values()):
        text = ", ".join(f"{evidence_label(key)} {decision_text(key, item)}" for key, item in value.items())
    elif isinstance(value, list) and all(not isinstance(item, Mapping | list) for item in value):
        text = ", ".join(decision_text(name, item) for item in value) or "none"
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) and item for item in value)


def _record_table(name: str, rows: list[Mapping[str, Any]]) -> Table:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    # Texts first: the first column names the row.
    keys.sort(key=lambda key: not isinstance(rows[0].get(key), str))
    shown = rows[:_MOST_ROWS]
    numeric = [key for key in keys if all(_is_number(row.get(key)) for row in shown)]
    caption = evidence_label(name).capitalize()
    if len(rows) > len(shown):
        caption += f" (the first {len(shown)} of {len(rows):,})"
    return Table(
        caption,
        tuple(evidence_label(key) for key in keys),
        tuple(tuple(decision_text(key, row.get(key)) for key in keys) for row in shown),
        tuple(evidence_label(key) for key in numeric),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
