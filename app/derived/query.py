"""What the grid asks for, turned into SQL: known columns by name, everything that a user typed as a parameter."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from analyzer.errors import HotbenchError

By = Literal["op", "name"]
TEXTS = ("name", "module", "source", "phase", "dtype", "shape")
NUMBERS = (
    "op", "count", "self_seconds", "spread_seconds", "mean_seconds", "share", "device_seconds", "flops",
    "bytes_moved", "flop_rate", "kernels",
)  # fmt: skip
OP_COLUMNS = (
    "op", "name", "module", "source", "phase", "self_seconds", "spread_seconds", "samples", "share", "device_seconds",
    "flops", "bytes_moved", "flop_rate", "dtype", "shape", "kernels",
)  # fmt: skip
NAME_COLUMNS = (
    "name", "count", "self_seconds", "mean_seconds", "share", "device_seconds", "flops", "bytes_moved", "flop_rate",
    "kernels",
)  # fmt: skip
_SEARCHED = ("name", "module", "source")
_BY_NAME = """
SELECT name, count(*) AS count, sum(self_seconds) AS self_seconds, avg(self_seconds) AS mean_seconds,
       sum(share) AS share, sum(device_seconds) AS device_seconds, sum(flops) AS flops,
       sum(bytes_moved) AS bytes_moved,
       sum(flops) / nullif(sum(CASE WHEN flops > 0 THEN coalesce(device_seconds, self_seconds) END), 0) AS flop_rate,
       sum(kernels) AS kernels
FROM ops {where} GROUP BY name"""
_COMPARISONS = {
    "equals": "=", "notEqual": "<>", "lessThan": "<", "lessThanOrEqual": "<=", "greaterThan": ">",
    "greaterThanOrEqual": ">=",
}  # fmt: skip
_PATTERNS = {"contains": "%{}%", "notContains": "%{}%", "startsWith": "{}%", "endsWith": "%{}"}
_LONGEST_TEXT = 400
_MOST_CONDITIONS = 20


@dataclass(frozen=True)
class OpsQuery:
    """Which rows, in which order.

    by:      a row an op, or a row a name.
    search:  a text that name, module or source contains.
    filters: by column, as AG Grid writes them; numbers in SI units.
    sort:    (column, "asc" or "desc"), the most important first.
    """

    by: By = "op"
    search: str = ""
    filters: Mapping[str, Any] = field(default_factory=dict)
    sort: Sequence[tuple[str, str]] = ()


def query_text(query: OpsQuery) -> str:
    """Return the query as the address holds it; "" for the plain list of ops."""
    data: dict[str, Any] = {}
    if query.by != "op":
        data["by"] = query.by
    if query.search:
        data["search"] = query.search
    if query.filters:
        data["filters"] = dict(query.filters)
    if query.sort:
        data["sort"] = [list(pair) for pair in query.sort]
    return json.dumps(data, separators=(",", ":"), sort_keys=True) if data else ""


def read_query(text: str | None) -> OpsQuery:
    """Return the query that `query_text` wrote. Raises HotbenchError for any other text."""
    if not text:
        return OpsQuery()
    try:
        data = json.loads(text)
        by, search, filters = data.get("by", "op"), data.get("search", ""), data.get("filters", {})
        sort = tuple((str(column), str(way)) for column, way in data.get("sort", []))
        if by not in ("op", "name") or not isinstance(search, str) or not isinstance(filters, dict):
            raise ValueError(text)
    except (ValueError, AttributeError, TypeError) as error:
        raise HotbenchError(f"the filter {text[:80]!r} cannot be read; clear it and choose again") from error
    return OpsQuery(by, search, filters, sort)


def count_rows(connection: sqlite3.Connection, query: OpsQuery) -> int:
    """Return how many rows the query has."""
    source, parameters = _source(query)
    return int(connection.execute(f"SELECT count(*) FROM ({source})", parameters).fetchone()[0])


def rows(
    connection: sqlite3.Connection, query: OpsQuery, start: int = 0, limit: int | None = None
) -> Iterator[sqlite3.Row]:
    """Yield the query's rows from `start`, at most `limit` of them. Raises HotbenchError for an unknown column."""
    source, parameters = _source(query)
    order = _order(query)
    statement = f"SELECT * FROM ({source}) ORDER BY {order} LIMIT ? OFFSET ?"
    yield from connection.execute(statement, [*parameters, -1 if limit is None else limit, start])


def position_of(connection: sqlite3.Connection, query: OpsQuery, op: int) -> int | None:
    """Return at which row an op stands; None if it is not among them, or the rows are names."""
    if query.by == "name":
        return None
    source, parameters = _source(query)
    statement = (
        f"SELECT place FROM (SELECT op, row_number() OVER (ORDER BY {_order(query)}) - 1 AS place FROM ({source})) "
        "WHERE op = ?"
    )
    row = connection.execute(statement, [*parameters, op]).fetchone()
    return None if row is None else int(row[0])


def columns_of(query: OpsQuery) -> tuple[str, ...]:
    """Return the names of the query's columns."""
    return OP_COLUMNS if query.by == "op" else NAME_COLUMNS


def _source(query: OpsQuery) -> tuple[str, list[Any]]:
    """Return the statement of the rows without their order, and its parameters.

    A filter on a text chooses ops; in the list of names a filter on a number chooses among the sums.
    """
    inner, inner_parameters = _conditions(query, query.filters if query.by == "op" else _among(query, TEXTS))
    where = f"WHERE {' AND '.join(inner)}" if inner else ""
    if query.by == "op":
        return f"SELECT * FROM ops {where}", inner_parameters
    outer, outer_parameters = _conditions(OpsQuery("name"), _among(query, NUMBERS))
    names = _BY_NAME.format(where=where)
    if not outer:
        return names, inner_parameters
    return f"SELECT * FROM ({names}) WHERE {' AND '.join(outer)}", [*inner_parameters, *outer_parameters]


def _among(query: OpsQuery, names: Sequence[str]) -> dict[str, Any]:
    return {column: model for column, model in query.filters.items() if column in names}


def _conditions(query: OpsQuery, filters: Mapping[str, Any]) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    parameters: list[Any] = []
    if query.search:
        pattern = f"%{_escaped(query.search)}%"
        conditions.append("(" + " OR ".join(f"{name} LIKE ? ESCAPE '\\'" for name in _SEARCHED) + ")")
        parameters += [pattern] * len(_SEARCHED)
    for column, model in filters.items():
        if column not in TEXTS and column not in columns_of(query):
            raise HotbenchError(f"there is no column {str(column)[:40]!r} to filter by; clear the filter")
        condition, values = _condition(column, model)
        conditions.append(condition)
        parameters += values
    return conditions, parameters


def _condition(column: str, model: Any) -> tuple[str, list[Any]]:
    """Return one column's condition. AG Grid joins several with "operator" and "conditions"."""
    if not isinstance(model, Mapping):
        raise _unreadable(column)
    parts = model.get("conditions")
    if parts is None:
        return _simple(column, model)
    if not isinstance(parts, list) or not parts or len(parts) > _MOST_CONDITIONS:
        raise _unreadable(column)
    pairs = [_simple(column, part) for part in parts]
    word = " OR " if model.get("operator") == "OR" else " AND "
    return f"({word.join(condition for condition, _ in pairs)})", [value for _, values in pairs for value in values]


def _simple(column: str, model: Any) -> tuple[str, list[Any]]:
    kind = model.get("type") if isinstance(model, Mapping) else None
    if kind in ("blank", "notBlank"):
        blank = f"({column} IS NULL OR {column} = '')"
        return (blank if kind == "blank" else f"NOT {blank}"), []
    value = model.get("filter") if isinstance(model, Mapping) else None
    if column in TEXTS:
        return _text(column, str(kind), value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _unreadable(column)
    if kind == "inRange":
        end = model.get("filterTo")
        if not isinstance(end, int | float) or isinstance(end, bool):
            raise _unreadable(column)
        return f"{column} BETWEEN ? AND ?", [value, end]
    if kind not in _COMPARISONS:
        raise _unreadable(column)
    return f"{column} {_COMPARISONS[str(kind)]} ?", [value]


def _text(column: str, kind: str, value: Any) -> tuple[str, list[Any]]:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise _unreadable(column)
    if kind in _PATTERNS:
        negation = "NOT " if kind == "notContains" else ""
        return f"{column} {negation}LIKE ? ESCAPE '\\'", [_PATTERNS[kind].format(_escaped(value))]
    if kind in ("equals", "notEqual"):
        return f"{column} {_COMPARISONS[kind]} ?", [value]
    raise _unreadable(column)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _order(query: OpsQuery) -> str:
    """Return the ORDER BY; the last column makes the order the same each time, or pages would overlap."""
    last = "op" if query.by == "op" else "name"
    terms = []
    for column, way in query.sort:
        if column not in columns_of(query):
            raise HotbenchError(f"there is no column {column[:40]!r} to sort by; clear the sorting")
        terms.append(f"{column} {'DESC' if way == 'desc' else 'ASC'} NULLS LAST")
    if not terms and query.by == "name":
        terms.append("self_seconds DESC NULLS LAST")
    return ", ".join([*terms, last])


def _unreadable(column: str) -> HotbenchError:
    return HotbenchError(f"the filter of the column {column[:40]!r} cannot be read; clear it and choose again")
