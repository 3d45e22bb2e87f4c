"""The long parts of a Run as Parquet tables: a schema for each, and values to bytes and back."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from analyzer.graph import Edge, Graph, Op, Tensor
from analyzer.measurement import Measurement

_MEASUREMENT = pa.struct(
    [("median", pa.float64()), ("low", pa.float64()), ("high", pa.float64()), ("samples", pa.int64()),
     ("unit", pa.string()), ("interval", pa.string())]
)  # fmt: skip
_INDICES = pa.list_(pa.int64())
_TEXT = pa.dictionary(pa.int32(), pa.string())
OPS = pa.schema(
    [("index", pa.int64()), ("name", _TEXT), ("parent", pa.int64()), ("phase", _TEXT), ("thread", pa.int64()),
     ("inputs", _INDICES), ("outputs", _INDICES), ("arguments", _TEXT), ("scope", _TEXT), ("source", _TEXT),
     ("forward_op", pa.int64()), ("self_seconds", _MEASUREMENT), ("device_seconds", _MEASUREMENT),
     ("flops", pa.float64()), ("bytes_moved", pa.int64()), ("mutates", _INDICES), ("executes", pa.bool_())]
)  # fmt: skip
TENSORS = pa.schema(
    [("index", pa.int64()), ("storage", pa.int64()), ("offset", pa.int64()), ("shape", _INDICES),
     ("strides", _INDICES), ("dtype", _TEXT), ("device", _TEXT), ("nbytes", pa.int64()), ("producer", pa.int64()),
     ("category", _TEXT)]
)  # fmt: skip
EDGES = pa.schema([("source", pa.int64()), ("target", pa.int64()), ("tensor", pa.int64())])
MEMORY = pa.schema([("seconds", pa.float64()), ("live_bytes", pa.int64())])
KERNELS = pa.schema(
    [("name", _TEXT), ("op", pa.int64()), ("stream", pa.int64()), ("start_seconds", pa.float64()),
     ("seconds", pa.float64())]
)  # fmt: skip
SAMPLES = pa.schema(
    [("seconds", pa.float64()), ("utilization", pa.float64()), ("memory_used_bytes", pa.int64()),
     ("power_watts", pa.float64()), ("temperature_celsius", pa.float64()), ("sm_clock_mhz", pa.float64())]
)  # fmt: skip


def table_bytes(values: Sequence[object], schema: pa.Schema) -> bytes:
    """Return `values`, whose attributes are the schema's columns, as one compressed Parquet file."""
    columns = [[_cell(getattr(value, name)) for value in values] for name in schema.names]
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()


def table_rows(path: Path) -> list[dict[str, Any]]:
    """Return a table's rows by column name. Raises OSError or pyarrow.ArrowException where it cannot be read."""
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def read_graph(folder: Path) -> Graph:
    """Return the graph that ops.parquet, tensors.parquet and edges.parquet hold, checked."""
    return Graph(
        tuple(_op(row) for row in table_rows(folder / "ops.parquet")),
        tuple(_tensor(row) for row in table_rows(folder / "tensors.parquet")),
        tuple(Edge(**row) for row in table_rows(folder / "edges.parquet")),
    ).check()


def _cell(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Measurement) else value


def _op(row: dict[str, Any]) -> Op:
    for name in ("inputs", "outputs", "mutates"):
        row[name] = tuple(row[name])
    for name in ("self_seconds", "device_seconds"):
        row[name] = None if row[name] is None else Measurement(**row[name])
    return Op(**row)


def _tensor(row: dict[str, Any]) -> Tensor:
    row["shape"], row["strides"] = tuple(row["shape"]), tuple(row["strides"])
    return Tensor(**row)
