"""A captured run: what was measured, on what, of which workload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analyzer.device import Device, Environment
from analyzer.graph import Graph
from analyzer.measurement import Measurement
from analyzer.workload import WorkloadReference

FORMAT_VERSION = 1


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
