"""An optimizer's decisions (plain JSON of any shape) as tables: words for what is known, and its name for the rest."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from app.reports.document import Table
from app.units import digits, evidence, evidence_label, milliseconds, plural, ratio

_LONGEST = 160
_MOST_ROWS = 40
_COMPARISON = ("first_seconds", "second_seconds", "ratio", "low", "high", "rounds")
"""What says how long two ways to compute the same took: a measurement, not a choice."""
_COMPARED = ("ATen, ms", "kernel, ms", "ratio", "95 % interval")
_LABELS = {
    "choices": "kernels, each measured against the ops that it replaces",
    "nodes": "ops",
    "graph": "hash of the model's graph",
    "program": "hash of the program",
    "excluded": "left to the library",
    "rolled": "steps that repeat run as loops",
    "loops": "loops, each one kernel call",
    "kernel_calls": "kernel calls a step",
    "library_calls": "library calls a step",
    "arena_bytes": "memory of the arena",
    "eager_over_fused": "whole step, eager over fused",
    "max_rel": "largest relative error",
    "max_rel_against_float64": "largest relative error against float64, fused and eager",
}


def decision_tables(decisions: Mapping[str, Any]) -> list[Table]:
    """Return one table of single values, and one for each list of records, such as the choice made for each kernel."""
    records = {name: value for name, value in decisions.items() if _is_records(value)}
    single = [(_label(name), decision_text(name, value)) for name, value in decisions.items() if name not in records]
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
    if _is_comparison(value):
        return _comparison(name, value)
    if isinstance(value, Mapping) and value and all(not isinstance(item, Mapping | list) for item in value.values()):
        text = ", ".join(f"{_label(key)} {decision_text(key, item)}" for key, item in value.items())
    elif isinstance(value, list) and all(not isinstance(item, Mapping | list) for item in value):
        text = _nodes(value) if name == "nodes" else ", ".join(decision_text(name, item) for item in value) or "none"
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


def _label(name: str) -> str:
    return _LABELS.get(name) or evidence_label(name)


def _comparison(name: str, value: Mapping[str, Any]) -> str:
    """Return how two ways compare: `name` is FIRST_over_SECOND where the ways have names."""
    first, over, second = name.partition("_over_")
    ways = (first, second) if over else ("ATen", "kernel")
    times = ", ".join(
        f"{way.replace('_', ' ')} {milliseconds(value[key])}" for way, key in zip(ways, _COMPARISON[:2], strict=True)
    )
    spread = f"95 % interval {ratio(value['low'])} to {ratio(value['high'])}"
    return f"{times}: {ratio(value['ratio'])} ({spread}, {plural(value['rounds'], 'round')})"


def _nodes(names: list[Any]) -> str:
    """Return what the ops of a kernel are: add ×2, tanh; a capture numbers ops of one name: add, add_1, add_2."""
    counts = Counter(re.sub(r"_\d+$", "", str(name)) for name in names)
    return ", ".join(name if count == 1 else f"{name} ×{count:,}" for name, count in counts.items()) or "none"


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) and item for item in value)


def _is_comparison(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_is_number(value.get(key)) for key in _COMPARISON)


def _record_table(name: str, rows: list[Mapping[str, Any]]) -> Table:
    compared = all(_is_comparison(row) for row in rows)
    keys = list(dict.fromkeys(key for row in rows for key in row if not (compared and key in _COMPARISON)))
    # Texts first: the first column names the row; then what it is of.
    keys.sort(key=lambda key: (not isinstance(rows[0].get(key), str), not isinstance(rows[0].get(key), list)))
    shown = rows[:_MOST_ROWS]
    numeric = [_label(key) for key in keys if all(_is_number(row.get(key)) for row in shown)]
    caption = _label(name)
    caption = caption[:1].upper() + caption[1:] + (_rounds(rows) if compared else "")
    if len(rows) > len(shown):
        caption += f" (the first {len(shown)} of {len(rows):,})"
    cells = [tuple(decision_text(key, row.get(key)) for key in keys) for row in shown]
    columns = tuple(_label(key) for key in keys)
    if compared:
        cells = [(*left, *_compared(row)) for left, row in zip(cells, shown, strict=True)]
        columns, numeric = (*columns, *_COMPARED), [*numeric, *_COMPARED]
    return Table(caption, columns, tuple(cells), tuple(numeric))


def _compared(row: Mapping[str, Any]) -> tuple[str, ...]:
    first, second = (_milliseconds(row[key]) for key in _COMPARISON[:2])
    return first, second, ratio(row["ratio"]), f"{ratio(row['low'])} to {ratio(row['high'])}"


def _rounds(rows: list[Mapping[str, Any]]) -> str:
    counts = sorted({row["rounds"] for row in rows})
    return f", in {counts[0]:,} to {plural(counts[-1], 'round')}" if len(counts) > 1 else f", in {counts[0]:,} rounds"


def _milliseconds(seconds: float) -> str:
    # The unit stands in the column's heading: one unit, and one way to write it, for the whole column.
    value = seconds * 1e3
    return digits(value) if not 0 < value < 1e-4 else f"{value:.{2 - math.floor(math.log10(value))}f}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
