"""A stored run's tables as columns: what the grid and the graph need, without one object for each op."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from analyzer.errors import RecordError
from analyzer.record import read_folder
from app.store import Store

_KEPT = 4
_loaded: OrderedDict[Path, RunColumns] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True)
class RunColumns:
    """The tables of one run; rows of `ops` and `tensors` are in order of their index."""

    run_id: str
    ops: pa.Table
    tensors: pa.Table
    edges: pa.Table
    kernels: pa.Table

    def text(self, name: str) -> list[str]:
        """Return a column of texts of the ops."""
        return cast(list[str], self.ops[name].cast(pa.string()).to_pylist())

    def numbers(self, name: str) -> NDArray[Any]:
        """Return a column of numbers of the ops."""
        return cast(NDArray[Any], self.ops[name].to_numpy())

    def measured(self, name: str, field: str) -> NDArray[np.float64]:
        """Return one field of a Measurement column, such as ("self_seconds", "median"); NaN where there is none."""
        column = pc.struct_field(self.ops[name].combine_chunks(), field)
        return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)

    def edge(self, name: str) -> NDArray[np.int64]:
        """Return a column of the edges: "source", "target" or "tensor"."""
        return np.asarray(self.edges[name].to_numpy(), dtype=np.int64)

    @cached_property
    def kernels_by_op(self) -> NDArray[np.int64]:
        """Return how many kernels each op launched."""
        launched = np.asarray(self.kernels["op"].to_numpy(), dtype=np.int64)
        return np.bincount(launched[launched >= 0], minlength=self.ops.num_rows)

    @cached_property
    def tensor_bytes(self) -> NDArray[np.int64]:
        """Return the bytes of each tensor."""
        return np.asarray(self.tensors["nbytes"].to_numpy(), dtype=np.int64)

    def op(self, index: int) -> dict[str, Any]:
        """Return one op's row. Raises RecordError if there is none."""
        return _row(self.ops, index, "op", self.run_id)

    def tensor(self, index: int) -> dict[str, Any]:
        """Return one tensor's row. Raises RecordError if there is none."""
        return _row(self.tensors, index, "tensor", self.run_id)


def read_columns(store: Store, run_id: str) -> RunColumns:
    """Return the columns of a run; the latest few are kept in memory.

    Raises StoreError for an unknown run, RecordError for a folder that is incomplete or changed.
    """
    folder = store.folder(store.find(run_id, ("run",)))
    with _lock:
        known = _loaded.get(folder)
        if known is not None:
            _loaded.move_to_end(folder)
            return known
    columns = _read(folder)
    with _lock:
        _loaded[folder] = columns
        while len(_loaded) > _KEPT:
            _loaded.popitem(last=False)
    return columns


def _read(folder: Path) -> RunColumns:
    manifest = read_folder(folder, "run")
    try:
        tables = [pq.read_table(folder / f"{name}.parquet") for name in ("ops", "tensors", "edges", "kernels")]
    except (OSError, pa.ArrowException) as error:
        raise RecordError(f"{folder} is no readable run: {error}") from error
    return RunColumns(manifest.id, *tables)


def _row(table: pa.Table, index: int, noun: str, run_id: str) -> dict[str, Any]:
    if not 0 <= index < table.num_rows:
        raise RecordError(f"{run_id} has no {noun} {index}: it has {table.num_rows:,}, counted from 0")
    return cast(dict[str, Any], table.slice(index, 1).to_pylist()[0])
