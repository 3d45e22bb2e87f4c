"""A run's ops as CSV, in SI units: exactly the rows of a query, in its order."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analyzer.errors import HotbenchError
from app.derived.ops import open_ops
from app.derived.query import OpsQuery, columns_of, count_rows, rows
from app.store import Store

_LINES_AT_ONCE = 2000
_FORMULA_STARTS = ("=", "+", "-", "@")
_CONTROLS = ("\t", "\r", "\n")


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


def write_csv(store: Store, run: str, query: OpsQuery, path: Path) -> int:
    """Write the CSV of a query to `path`, whole or not at all; return how many rows it has.

    Raises HotbenchError for a filter that cannot be, or a place that cannot be written to.
    """
    with open_ops(store, run) as connection:
        count = count_rows(connection, query)
    try:
        with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=f".{path.name}.") as beside:
            draft = Path(beside, "draft.csv")
            with draft.open("w", encoding="utf-8", newline="") as stream:
                stream.writelines(csv_lines(store, run, query))
            draft.replace(path)
    except OSError as error:
        raise HotbenchError(f"cannot write {str(path)!r}: {error.strerror}; choose another place") from error
    return count


def cell(value: Any) -> Any:
    """Return a value as it may stand in a CSV file.

    A text that a spreadsheet would run as a formula gets a quote before it: names come from models and files.
    """
    risky = isinstance(value, str) and (value.lstrip().startswith(_FORMULA_STARTS) or value[:1] in _CONTROLS)
    return f"'{value}" if risky else value
