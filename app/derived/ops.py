"""A run's ops as one SQLite table: what the grid sorts, filters and pages through."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.derived.columns import RunColumns, read_columns
from app.derived.place import derived_file
from app.store import Store

FORMAT_VERSION = 1
_SCHEMA = """
CREATE TABLE ops (
    op INTEGER PRIMARY KEY, name TEXT, module TEXT, source TEXT, phase TEXT, self_seconds REAL, spread_seconds REAL,
    samples INTEGER, share REAL, device_seconds REAL, flops REAL, bytes_moved INTEGER, flop_rate REAL, dtype TEXT,
    shape TEXT, kernels INTEGER
)"""
_SHAPES = 4
_SUMMED = "name, self_seconds, share, device_seconds, flops, bytes_moved, kernels"


@contextmanager
def open_ops(store: Store, run_id: str) -> Iterator[sqlite3.Connection]:
    """Yield a read-only connection to the run's table of ops, made first if it is missing."""
    run_id = store.find(run_id, ("run",)).id
    path = derived_file(
        store, run_id, "ops.sqlite", FORMAT_VERSION, lambda target: write_ops(read_columns(store, run_id), target)
    )
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


def write_ops(columns: RunColumns, path: Path) -> None:
    """Write the table of ops into a new SQLite file."""
    with closing(sqlite3.connect(path)) as connection:
        # The file is renamed into place when it is whole: a journal would only cost time.
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(_SCHEMA)
        connection.executemany(f"INSERT INTO ops VALUES ({', '.join('?' * 16)})", _rows(columns))
        connection.execute("CREATE INDEX ops_by_time ON ops (self_seconds)")
        # Holds all that the list of names sums up, in its order: grouping is one scan.
        connection.execute(f"CREATE INDEX ops_by_name ON ops ({_SUMMED})")
        connection.commit()


def _rows(columns: RunColumns) -> Iterator[tuple[Any, ...]]:
    seconds = columns.measured("self_seconds", "median")
    spread = columns.measured("self_seconds", "high") - columns.measured("self_seconds", "low")
    device = columns.measured("device_seconds", "median")
    flops = np.asarray(columns.numbers("flops"), dtype=np.float64)
    total = float(np.nansum(seconds))
    # On a GPU an op's own time is that of its launch: its rate is over the time of its kernels.
    busy = np.where(np.isnan(device), seconds, device)
    rate = np.divide(flops, busy, out=np.full(len(flops), np.nan), where=(busy > 0) & (flops > 0))
    dtypes, shapes = _outputs(columns)
    return zip(
        range(columns.ops.num_rows),
        columns.text("name"),
        columns.text("scope"),
        columns.text("source"),
        columns.text("phase"),
        _or_null(seconds),
        _or_null(spread),
        _or_null(columns.measured("self_seconds", "samples")),
        _or_null(seconds / total if total else np.full(len(seconds), np.nan)),
        _or_null(device),
        flops.tolist(),
        columns.numbers("bytes_moved").tolist(),
        _or_null(rate),
        dtypes,
        shapes,
        columns.kernels_by_op.tolist(),
        strict=True,
    )


def _or_null(values: NDArray[np.float64]) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]


def _outputs(columns: RunColumns) -> tuple[list[str], list[str]]:
    """Return the dtypes and the shapes of each op's outputs, as texts."""
    dtypes = columns.tensors["dtype"].cast("string").to_pylist()
    texts: dict[tuple[int, ...], str] = {}
    shapes = [
        texts.get(key) or texts.setdefault(key, shape_text(key))
        for key in map(tuple, columns.tensors["shape"].to_pylist())
    ]
    counts = pc.list_value_length(columns.ops["outputs"]).to_pylist()
    flat = columns.ops["outputs"].combine_chunks().flatten().to_pylist()
    dtype_texts, shape_texts, position = [], [], 0
    for count in counts:
        if count == 1:
            dtype_texts.append(dtypes[flat[position]])
            shape_texts.append(shapes[flat[position]])
        else:
            outputs = flat[position : position + count]
            dtype_texts.append(", ".join(dict.fromkeys(dtypes[tensor] for tensor in outputs)))
            more = ", …" if count > _SHAPES else ""
            shape_texts.append(", ".join(shapes[tensor] for tensor in outputs[:_SHAPES]) + more)
        position += count
    return dtype_texts, shape_texts


def shape_text(shape: list[int] | tuple[int, ...]) -> str:
    """Return a shape for people: "[4, 128]"."""
    return f"[{', '.join(str(size) for size in shape)}]"
