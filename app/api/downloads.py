"""Downloads: a run's ops as CSV, exactly the rows that the grid shows, in its order."""

from __future__ import annotations

from flask import Blueprint, Response, request

from app.derived.ops import open_ops
from app.derived.ops_csv import csv_lines
from app.derived.query import count_rows, read_query, rows
from app.web.context import context

blueprint = Blueprint("downloads", __name__)


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
