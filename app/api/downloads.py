"""Downloads: a run's ops as CSV, exactly the rows that the grid shows, in its order."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, request

from app.derived.ops import open_ops
from app.derived.query import OpsQuery, columns_of, count_rows, read_query, rows
from app.store import Store
from app.web.context import context

blueprint = Blueprint("downloads", __name__)

_LINES_AT_ONCE = 2000
_FORMULA_STARTS = ("=", "+", "-", "@")
_CONTROLS = ("\t", "\r", "\n")


@blueprint.get("/api/runs/<run>/operators.csv")
def operators_csv(run: str) -> Response:
    """Return the ops that `filter` chooses as CSV, in SI units; the header X-Row-Count says how many rows there are."""
    store = context().store
    entry = store.find(run, ("run",))
    query = read_query(request.args.get("filter"))
    with open_ops(store, entry.id) as connection:
        count = count_rows(connection, query)
        # An unknown column is refused here, while there is still a status to send.
        next(rows(connection, query, 0, 1), None)
    answer = Response(csv_lines(store, entry.id, query), mimetype="text/csv")
    answer.headers["Content-Disposition"] = f'attachment; filename="{entry.id}-operators.csv"'
    answer.headers["X-Row-Count"] = str(count)
    return answer


def csv_lines(store: Store, run: str, query: OpsQuery) -> Iterator[str]:
    """Yield the CSV of a query piece by piece, its header first."""
    columns = columns_of(query)
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(columns)
    with open_ops(store, run) as connection:
        for number, row in enumerate(rows(connection, query), 1):
            writer.writerow([cell(row[name]) for name in columns])
            if number % _LINES_AT_ONCE == 0:
                yield buffer.getvalue()
                buffer.seek(0)
                buffer.truncate()
    yield buffer.getvalue()


def cell(value: Any) -> Any:
    """Return a value as it may stand in a CSV file.

    A text that a spreadsheet would run as a formula gets a quote before it: names come from models and files.
    """
    risky = isinstance(value, str) and (value.lstrip().startswith(_FORMULA_STARTS) or value[:1] in _CONTROLS)
    return f"'{value}" if risky else value
