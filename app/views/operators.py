"""What the page of operators shows: columns with their units, rows for people, and everything known of one op."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analyzer.errors import HotbenchError
from app.derived.columns import RunColumns
from app.derived.ops import shape_text
from app.derived.query import By, OpsQuery
from app.units import MISSING, digits, percent, printable

BLOCK_ROWS = 100
MOST_BLOCK_ROWS = 1000
_MOST_LINKS = 12


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the grid.

    scale: what a value is divided by to be in `unit`; 0 for texts.
    """

    name: str
    title: str
    width: int
    scale: float = 0.0
    unit: str = ""
    flexible: bool = False

    @property
    def heading(self) -> str:
        """Return the title with its unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


COLUMNS = {
    column.name: column
    for column in (
        Column("op", "Op", 96, 1.0),
        Column("name", "Name", 180, flexible=True),
        Column("count", "Calls", 96, 1.0),
        Column("module", "Module", 180),
        Column("source", "Line", 176),
        Column("phase", "Phase", 104),
        Column("self_seconds", "Self time", 160, 1e-6, "µs"),
        Column("spread_seconds", "Spread", 128, 1e-6, "µs"),
        Column("mean_seconds", "Mean", 112, 1e-6, "µs"),
        Column("share", "Share", 122, 0.01, "%"),
        Column("device_seconds", "On device", 146, 1e-6, "µs"),
        Column("flops", "Work", 156, 1e6, "MFLOP"),
        Column("bytes_moved", "Moved", 126, 1024.0, "KiB"),
        Column("flop_rate", "Rate", 156, 1e9, "GFLOP/s"),
        Column("dtype", "Output dtype", 128),
        Column("shape", "Output shape", 150),
        Column("kernels", "Kernels", 100, 1.0),
    )
}
SHOWN: Mapping[By, tuple[str, ...]] = {
    "op": (
        "op", "name", "self_seconds", "share", "source", "module", "device_seconds", "flops", "bytes_moved",
        "flop_rate", "spread_seconds", "shape", "dtype", "phase", "kernels",
    ),
    "name": (
        "name", "count", "self_seconds", "mean_seconds", "share", "device_seconds", "flops", "bytes_moved",
        "flop_rate", "kernels",
    ),
}  # fmt: skip
_ON_DEVICE_ONLY = ("device_seconds", "kernels")


def shown_columns(by: By, on_device: bool) -> tuple[Column, ...]:
    """Return the columns of a list; those of a GPU are left out where there was none."""
    return tuple(COLUMNS[name] for name in SHOWN[by] if on_device or name not in _ON_DEVICE_ONLY)


def display_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row for people, keys as in the query; "id" is what the grid knows it by."""
    shown = {name: _cell(COLUMNS[name], value) for name, value in row.items() if name in COLUMNS}
    return {**shown, "id": str(row.get("op", row["name"])), "raw_share": row.get("share") or 0.0}


def _cell(column: Column, value: Any) -> str:
    if value is None:
        return MISSING
    if not column.scale:
        return printable(str(value))
    if column.name == "share":
        return percent(value, 2).removesuffix(" %")
    if column.scale == 1.0:
        return f"{value:,}"
    return digits(value / column.scale) if value else "0"


def block(request: Mapping[str, Any]) -> tuple[int, int]:
    """Return (start, count) of the rows that the grid asks for. Raises HotbenchError for impossible ones."""
    start, end = request.get("startRow", 0), request.get("endRow", BLOCK_ROWS)
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end):
        raise HotbenchError(f"rows {start!r} to {end!r} cannot be shown; reload the page")
    return start, min(end - start, MOST_BLOCK_ROWS)


def requested(request: Mapping[str, Any], by: By, search: str) -> OpsQuery:
    """Return the query of the grid's request, its numbers in SI units."""
    sort = tuple((str(item.get("colId")), str(item.get("sort"))) for item in request.get("sortModel") or ())
    return OpsQuery(by, search.strip(), scaled(request.get("filterModel") or {}, to_si=True), sort)


def scaled(filters: Mapping[str, Any], *, to_si: bool) -> dict[str, Any]:
    """Return the grid's filters with numbers in SI units, or SI filters in the units of the grid."""
    return {name: _scaled_model(COLUMNS[name].scale, model, to_si) if name in COLUMNS else model
            for name, model in filters.items()}  # fmt: skip


def _scaled_model(scale: float, model: Any, to_si: bool) -> Any:
    if not scale or not isinstance(model, Mapping):
        return model
    result = dict(model)
    for key in ("filter", "filterTo"):
        value = model.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            # Nine digits: what a person typed, without the noise of the change of unit.
            result[key] = float(f"{value * scale if to_si else value / scale:.9g}")
    if isinstance(model.get("conditions"), list):
        result["conditions"] = [_scaled_model(scale, part, to_si) for part in model["conditions"]]
    return result


def for_list(query: OpsQuery, by: By) -> OpsQuery:
    """Return the query for the other list: filters and sorting by columns that it lacks are left out."""
    known = {*SHOWN[by], *(name for name in COLUMNS if not COLUMNS[name].scale)}
    return OpsQuery(
        by,
        query.search,
        {name: model for name, model in query.filters.items() if name in known},
        tuple(pair for pair in query.sort if pair[0] in SHOWN[by]),
    )


@dataclass(frozen=True, slots=True)
class TensorLine:
    """A tensor that an op reads or writes. links: ops on its other side; more: how many further ones there are."""

    shape: str
    dtype: str
    layout: str
    nbytes: int
    category: str
    alias: str
    links: tuple[tuple[int, str], ...]
    more: int


@dataclass(frozen=True, slots=True)
class OpDetails:
    """Everything that a run holds of one op."""

    index: int
    row: Mapping[str, Any]
    inputs: tuple[TensorLine, ...]
    outputs: tuple[TensorLine, ...]
    arguments: tuple[tuple[str, str], ...]
    parent: tuple[int, str] | None
    forward: tuple[int, str] | None
    kernels: tuple[tuple[str, float], ...]


def op_details(columns: RunColumns, index: int) -> OpDetails:
    """Return what the run holds of an op. Raises RecordError if there is no such op."""
    row = columns.op(index)
    readers, writers = columns.edge("source") == index, columns.edge("target") == index
    return OpDetails(
        index,
        row,
        tuple(_tensor(columns, tensor, writers, "source", row) for tensor in row["inputs"]),
        tuple(_tensor(columns, tensor, readers, "target", row) for tensor in row["outputs"]),
        _arguments(row["arguments"]),
        _named(columns, row["parent"]),
        _named(columns, row["forward_op"]),
        _kernels(columns, index),
    )


def _tensor(columns: RunColumns, index: int, edges: Any, side: str, row: Mapping[str, Any]) -> TensorLine:
    tensor = columns.tensor(index)
    chosen = edges & (columns.edge("tensor") == index)
    others = sorted(set(columns.edge(side)[chosen].tolist()))
    links = tuple(filter(None, (_named(columns, other) for other in others[:_MOST_LINKS])))
    return TensorLine(
        shape_text(tensor["shape"]),
        printable(tensor["dtype"]),
        _layout(tensor),
        tensor["nbytes"],
        tensor["category"],
        _alias(columns, tensor, row, side),
        links,
        len(others) - len(links),
    )


def _layout(tensor: Mapping[str, Any]) -> str:
    """Return "contiguous", or the strides."""
    expected, size = [], 1
    for extent in reversed(tensor["shape"]):
        expected.append(size)
        size *= max(extent, 1)
    pairs = zip(tensor["shape"], tensor["strides"], reversed(expected), strict=True)
    if all(extent <= 1 or stride == dense for extent, stride, dense in pairs):
        return "contiguous" if not tensor["offset"] else f"contiguous from element {tensor['offset']:,}"
    offset = f", from element {tensor['offset']:,}" if tensor["offset"] else ""
    return f"strides {shape_text(tensor['strides'])}{offset}"


def _alias(columns: RunColumns, tensor: Mapping[str, Any], row: Mapping[str, Any], side: str) -> str:
    """Return what the tensor shares memory with, in words."""
    if side == "source":
        return "written in place" if tensor["index"] in row["mutates"] else ""
    for position, other in enumerate(row["inputs"]):
        if columns.tensor(other)["storage"] == tensor["storage"]:
            return f"shares the memory of input {position + 1}"
    return ""


def _named(columns: RunColumns, index: int) -> tuple[int, str] | None:
    return None if index < 0 else (index, printable(columns.op(index)["name"]))


def _arguments(text: str) -> tuple[tuple[str, str], ...]:
    pairs: Sequence[Any] = json.loads(text)
    return tuple((printable(str(name)), printable(json.dumps(value))[:200]) for name, value in pairs)


def _kernels(columns: RunColumns, index: int) -> tuple[tuple[str, float], ...]:
    launched = np.flatnonzero(np.asarray(columns.kernels["op"].to_numpy()) == index)[:_MOST_LINKS]
    table = columns.kernels.take(launched)
    return tuple(
        (printable(name), seconds)
        for name, seconds in zip(table["name"].cast("string").to_pylist(), table["seconds"].to_pylist(), strict=True)
    )
