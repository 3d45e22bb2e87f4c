"""Kernels of a step on the device: which op launched each, and when the device was busy.

A kernel is linked through its correlation id to the runtime or driver call that launched it, and from there to the
innermost op on the same process and thread whose time contains the call. External ids are never used: older profilers
fill them with correlation ids, which collide with those of ops. What cannot be linked so is an orphan, and counted.
"""

from __future__ import annotations

import json
import tempfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

from analyzer.capture.alignment import match_positions, measure_columns
from analyzer.capture.recording import MARKER_PREFIX, STEP_MARKER, OpEvent, nest
from analyzer.measurement import Measurement
from analyzer.run import Kernel

KERNELS = frozenset({"kernel", "gpu_memcpy", "gpu_memset", "Kernel", "Memcpy", "Memset"})
LAUNCHES = frozenset({"cuda_runtime", "cuda_driver", "hip_runtime", "Runtime", "Driver"})
OPS = frozenset({"cpu_op", "user_annotation", "Operator"})
NO_LAUNCH = "no runtime event with its correlation"
NO_OP = "launched outside any op"


@dataclass(frozen=True, slots=True)
class Launched:
    """One execution on the device, in nanoseconds; op is an index into DeviceStep.ops, -1 for an orphan."""

    name: str
    stream: int
    start: int
    end: int
    op: int


@dataclass(frozen=True, slots=True)
class DeviceStep:
    """Ops and kernels of one marked step; times in nanoseconds."""

    begin: int
    ops: tuple[OpEvent, ...]
    kernels: tuple[Launched, ...]
    orphans: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DeviceWork:
    """What the device did in a step, over the graph's ops; busy and idle are medians over the steps."""

    kernels: tuple[Kernel, ...]
    busy_seconds: float
    idle_seconds: float
    op_seconds: tuple[Measurement | None, ...]
    orphans: Mapping[str, int]


def read_device_steps(profiler: Any) -> list[DeviceStep]:
    """Return the marked steps of a finished profiler, through its own JSON export.

    Only the export gives runtime calls and ops thread ids of one kind.
    """
    with tempfile.TemporaryDirectory(prefix="hotbench-") as folder:
        path = Path(folder, "profile.json")
        profiler.export_chrome_trace(str(path))
        return parse_device_steps(path.read_bytes())


def parse_device_steps(trace: bytes | str) -> list[DeviceStep]:
    """Return the marked steps of a Chrome trace, in order."""
    # Absolute microseconds with three decimals do not fit a float64.
    events = json.loads(trace, parse_float=Decimal)["traceEvents"]
    spans = [event for event in events if event.get("ph") == "X"]
    ops, markers = _ops(spans)
    launches = {_correlation(event): event for event in spans if event.get("cat") in LAUNCHES}
    kernels = [event for event in spans if event.get("cat") in KERNELS]
    threads = _thread_numbers(spans)
    return [_device_step(begin, end, ops, kernels, launches, threads) for begin, end in markers]


def _thread_numbers(spans: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], int]:
    numbers: dict[tuple[str, str], int] = {}
    for event in spans:
        numbers.setdefault(_thread(event), len(numbers))
    return numbers


def _thread(event: Mapping[str, Any]) -> tuple[str, str]:
    return str(event.get("pid")), str(event.get("tid"))


def _correlation(event: Mapping[str, Any]) -> Any:
    arguments = event.get("args", {})
    return arguments.get("correlation", arguments.get("correlation id"))


def _span(event: Mapping[str, Any]) -> tuple[int, int]:
    start = int(Decimal(event["ts"]) * 1000)
    return start, start + int(Decimal(event.get("dur", 0)) * 1000)


def _ops(spans: Sequence[Mapping[str, Any]]) -> tuple[list[OpEvent], list[tuple[int, int]]]:
    """Return the ops and the windows of our step markers."""
    threads = _thread_numbers(spans)
    ops, markers = [], []
    for order, event in enumerate(spans):
        if event.get("cat") not in OPS:
            continue
        start, end = _span(event)
        if event["name"] == STEP_MARKER:
            markers.append((start, end))
        elif not event["name"].startswith(MARKER_PREFIX):
            # A longer op first where two start together: the exporter keeps no order.
            ops.append(OpEvent(event["name"], start, end, threads[_thread(event)], order - (end - start)))
    return ops, sorted(markers)


def _device_step(
    begin: int,
    end: int,
    ops: Sequence[OpEvent],
    kernels: Sequence[Mapping[str, Any]],
    launches: Mapping[Any, Mapping[str, Any]],
    threads: Mapping[tuple[str, str], int],
) -> DeviceStep:
    mine = nest(op for op in ops if begin <= op.start <= end)
    find = innermost_op(mine)
    orphans: Counter[str] = Counter()
    found = []
    for kernel in kernels:
        launch = launches.get(_correlation(kernel)) if _correlation(kernel) is not None else None
        start, stop = _span(kernel)
        when = start if launch is None else _span(launch)[0]
        if not begin <= when <= end:
            continue
        op = -1 if launch is None else find(threads[_thread(launch)], when)
        if op < 0:
            orphans[NO_LAUNCH if launch is None else NO_OP] += 1
        stream = int(kernel.get("args", {}).get("stream", 0) or 0)
        found.append(Launched(kernel["name"], stream, start, stop, op))
    found.sort(key=lambda kernel: kernel.start)
    return DeviceStep(begin, tuple(mine), tuple(found), dict(orphans))


def innermost_op(ops: Sequence[OpEvent]) -> Callable[[int, int], int]:
    """Return a function (thread, time) -> index of the innermost op around that time, -1 where there is none."""
    by_thread: dict[int, list[int]] = {}
    for index, op in enumerate(ops):
        by_thread.setdefault(op.thread, []).append(index)
    starts = {thread: [ops[index].start for index in indices] for thread, indices in by_thread.items()}

    def find(thread: int, time: int) -> int:
        place = bisect_right(starts.get(thread, []), time) - 1
        index = by_thread[thread][place] if place >= 0 else -1
        while index >= 0 and ops[index].end < time:
            index = ops[index].parent
        return index

    return find


def busy_and_idle(spans: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Return the length of the union of the spans, and of the gaps between the first start and the last end."""
    busy, first, last = 0, None, None
    for start, end in sorted(spans):
        if last is None or first is None:
            first, last, busy = start, end, end - start
        elif end > last:
            busy += end - max(start, last)
            last = end
    return (busy, last - first - busy) if last is not None and first is not None else (0, 0)


def join_device_work(graph_names: Sequence[str], order: Sequence[int], steps: Sequence[DeviceStep]) -> DeviceWork:
    """Return the device's work over the graph's ops; the kernels are those of the last step.

    graph_names: names of the graph's ops thread by thread; order: their indices in the graph.
    """
    columns: list[dict[int, float]] = []
    kernels: tuple[Kernel, ...] = ()
    activity, orphans = [], Counter[str]()
    for step in steps:
        places = _places(graph_names, order, step.ops)
        seconds: dict[int, float] = {}
        for kernel in step.kernels:
            op = places.get(kernel.op, -1)
            if op >= 0:
                seconds[op] = seconds.get(op, 0.0) + (kernel.end - kernel.start) * 1e-9
        columns.append(seconds)
        activity.append(busy_and_idle((kernel.start, kernel.end) for kernel in step.kernels))
        orphans = Counter(step.orphans)
        kernels = tuple(_kernel(kernel, places, step.begin) for kernel in step.kernels)
    return DeviceWork(
        kernels=kernels,
        busy_seconds=median(busy for busy, _ in activity) * 1e-9 if activity else 0.0,
        idle_seconds=median(idle for _, idle in activity) * 1e-9 if activity else 0.0,
        op_seconds=tuple(measure_columns(columns, len(graph_names))),
        orphans=dict(orphans),
    )


def _places(names: Sequence[str], order: Sequence[int], ops: Sequence[OpEvent]) -> dict[int, int]:
    """Return the graph index of each op of a step that has its counterpart there."""
    ranks: dict[int, int] = {}
    for op in ops:
        ranks.setdefault(op.thread, len(ranks))
    mine = sorted(range(len(ops)), key=lambda index: (ranks[ops[index].thread], index))
    pairs = match_positions(tuple(names), tuple(ops[index].name for index in mine))
    return {mine[theirs]: order[place] for place, theirs in pairs}


def _kernel(kernel: Launched, places: Mapping[int, int], begin: int) -> Kernel:
    return Kernel(
        name=kernel.name,
        op=places.get(kernel.op, -1),
        stream=kernel.stream,
        start_seconds=(kernel.start - begin) * 1e-9,
        seconds=(kernel.end - kernel.start) * 1e-9,
    )
