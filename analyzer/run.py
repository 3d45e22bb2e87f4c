"""A captured run: what was measured, on what, of which workload. Saved as a small JSON head and Parquet tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pyarrow import ArrowException

from analyzer import runtables
from analyzer.device import Device, Environment
from analyzer.errors import RecordError
from analyzer.graph import Graph
from analyzer.measurement import Measurement
from analyzer.record import from_plain, read_folder, to_plain, write_folder
from analyzer.reference import WorkloadReference

FORMAT_VERSION = 1
KIND = "run"
HEAD = "run.json"


@dataclass(frozen=True, slots=True)
class StepTime:
    """Wall-clock seconds of one unprofiled step over `samples` steps: percentiles; low and high are the quartiles."""

    median: float
    low: float
    high: float
    p95: float
    p99: float
    samples: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Coverage:
    """What share of the step the capture explains, each from 0 to 1.

    timed_ops:          ops of the graph pass that have a time from the timing pass.
    joined_ops:         executed ops whose tensors are known (profiler event joined with its trace node).
    categorised_bytes:  bytes at the memory peak whose category is known.
    """

    timed_ops: float
    joined_ops: float
    categorised_bytes: float

    def as_dict(self) -> dict[str, float]:
        """Return the fields as plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class MemoryProfile:
    """Live bytes of the allocator in one step.

    peak_bytes: the highest, parameters and everything else alive included.
    at_peak:    bytes of each category at that moment; they sum to peak_bytes ("unknown" is what no category explains).
    timeline:   (seconds since the step began, live bytes) at every change, at most a few thousand points.
    """

    peak_bytes: int
    at_peak: dict[str, int]
    timeline: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceSample:
    """One NVML reading during the timing pass; a field that the driver does not give is None."""

    seconds: float
    utilization: float | None
    memory_used_bytes: int | None
    power_watts: float | None
    temperature_celsius: float | None
    sm_clock_mhz: float | None


@dataclass(frozen=True, slots=True)
class Kernel:
    """One execution on a device, linked to the op that launched it (-1: orphan, counted in the run)."""

    name: str
    op: int
    stream: int
    start_seconds: float
    seconds: float


@dataclass(frozen=True)
class Run:
    """One captured workload. `id` is derived from the content: the same folder has the same id."""

    id: str
    name: str
    created: str
    workload: WorkloadReference
    training: bool
    device: Device
    environment: Environment
    threads: int
    step_seconds: StepTime
    throughput: float
    """Items a second, an item being one row of the first input's first axis."""
    overhead: Measurement
    """CPU time of a step in the timing pass over that of an unprofiled one."""
    graph: Graph
    memory: MemoryProfile
    coverage: Coverage
    busy_seconds: float | None
    idle_seconds: float | None
    """Device busy and idle time in one step; None on a CPU."""
    kernels: tuple[Kernel, ...] = ()
    samples: tuple[DeviceSample, ...] = ()
    notes: tuple[str, ...] = ()
    """What the capture wants the reader to know: what was lost, refused or not to be had."""
    parent: str | None = None
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class _Point:
    seconds: float
    live_bytes: int


def with_content_id(run: Run) -> Run:
    """Return the run with the id of its content: of the head without id, and of the tables' bytes."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in _tables(run).items()}
    return replace(run, id=_content_id(_head(run), hashes))


def save_run(run: Run, folder: Path) -> None:
    """Write the run into `folder`, whole or not at all. Raises RecordError where it cannot be written."""
    head = json.dumps(_head(run) | {"id": run.id}, indent=1, sort_keys=True).encode()
    write_folder(folder, {HEAD: head, **_tables(run)}, KIND, run.id)


def load_run(folder: Path) -> Run:
    """Return the Run saved in `folder`, equal to the one that was saved.

    Raises RecordError for a folder that is missing, incomplete, changed, of another kind or of a newer format.
    """
    manifest = read_folder(folder, KIND)
    try:
        head = json.loads((folder / HEAD).read_bytes())
        if head["format_version"] > FORMAT_VERSION:
            raise ValueError(f"it has format {head['format_version']}, newer than {FORMAT_VERSION}; upgrade")
        run = _assemble(head, folder)
    except (RecordError, OSError, ValueError, KeyError, TypeError, AttributeError, ArrowException) as error:
        raise RecordError(f"{folder} is no readable run: {error}") from error
    hashes = {name: digest for name, digest in manifest.files.items() if name != HEAD}
    if not run.id == manifest.id == _content_id(_head(run), hashes):
        raise RecordError(f"{folder} is corrupt: its content does not match its id {manifest.id!r}")
    return run


def _head(run: Run) -> dict[str, Any]:
    """Return all but the id and what the tables hold."""
    apart = {"id", "graph", "kernels", "samples", "memory"}
    head = {field.name: to_plain(getattr(run, field.name)) for field in fields(run) if field.name not in apart}
    head["memory"] = {"peak_bytes": run.memory.peak_bytes, "at_peak": dict(run.memory.at_peak)}
    return head


def _tables(run: Run) -> dict[str, bytes]:
    points = [_Point(seconds, live) for seconds, live in run.memory.timeline]
    return {
        "ops.parquet": runtables.table_bytes(run.graph.ops, runtables.OPS),
        "tensors.parquet": runtables.table_bytes(run.graph.tensors, runtables.TENSORS),
        "edges.parquet": runtables.table_bytes(run.graph.edges, runtables.EDGES),
        "memory.parquet": runtables.table_bytes(points, runtables.MEMORY),
        "kernels.parquet": runtables.table_bytes(run.kernels, runtables.KERNELS),
        "samples.parquet": runtables.table_bytes(run.samples, runtables.SAMPLES),
    }


def _assemble(head: dict[str, Any], folder: Path) -> Run:
    # The tables are long: from_plain would check each of their values by its type.
    run = from_plain(Run, head | {"graph": {"ops": [], "tensors": [], "edges": []}})
    timeline = [(row["seconds"], row["live_bytes"]) for row in runtables.table_rows(folder / "memory.parquet")]
    return replace(
        run,
        graph=runtables.read_graph(folder),
        memory=replace(run.memory, timeline=tuple(timeline)),
        kernels=tuple(Kernel(**row) for row in runtables.table_rows(folder / "kernels.parquet")),
        samples=tuple(DeviceSample(**row) for row in runtables.table_rows(folder / "samples.parquet")),
    )


def _content_id(head: Mapping[str, Any], hashes: Mapping[str, str]) -> str:
    text = json.dumps([head, hashes], sort_keys=True)
    return f"{KIND}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
