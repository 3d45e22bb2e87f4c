"""The graph pass: one step with everything recorded. Nothing is timed here."""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch._C._profiler import _RecordFunctionFast
from torch.profiler import ExecutionTraceObserver, profile
from torch.utils import _pytree as pytree

from analyzer.capture.blocks import waiter
from analyzer.capture.collector import without_collector
from analyzer.capture.executiontrace import TraceNode, read_execution_trace
from analyzer.capture.lines import LineMarks
from analyzer.capture.profilerrecorder import activities
from analyzer.capture.recording import STEP_MARKER, OpEvent, Recording, nest, read_recording
from analyzer.errors import HotbenchError
from analyzer.workload import Stepper, Workload


@dataclass(frozen=True, slots=True)
class KnownStorage:
    """Memory that the workload names: `category` says as what."""

    address: int
    bytes: int
    device: str
    category: str


@dataclass(frozen=True)
class GraphPass:
    """One recorded step.

    ops:        its ops in order of start.
    nodes:      for each op its trace node, None where the trace has none.
    recording:  the whole window: the step before is recorded too, so that releases of its memory are seen.
    begin, end: of the step, in the recording's nanoseconds.
    modules:    id() of a module -> its path in the model.
    before, after: storages known before and after the step.
    """

    ops: tuple[OpEvent, ...]
    nodes: tuple[TraceNode | None, ...]
    recording: Recording
    lines: LineMarks
    begin: int
    end: int
    modules: dict[int, str]
    before: tuple[KnownStorage, ...]
    after: tuple[KnownStorage, ...]


def run_graph_pass(stepper: Stepper, device: str, root: Path) -> GraphPass:
    """Return one step recorded with shapes, memory, stacks, modules and the execution trace.

    The profiler hands out "External id"s and the trace "record function id"s; its own JSON export, written to a
    temporary folder and read back, is the only place that has both.
    """
    wait = waiter(device)
    lines = LineMarks(root)
    with tempfile.TemporaryDirectory(prefix="hotbench-") as folder:
        trace_file, profile_file = Path(folder, "trace.json"), Path(folder, "profile.json")
        observer = ExecutionTraceObserver().register_callback(str(trace_file))
        try:
            with profile(
                activities=activities(device), record_shapes=True, profile_memory=True, with_stack=True,
                with_modules=True,
            ) as profiler:  # fmt: skip
                stepper.step()
                wait()
                gc.collect()
                before = tuple(known_storages(stepper))
                observer.start()
                with lines.recording(), _RecordFunctionFast(STEP_MARKER):
                    stepper.step()
                    wait()
                observer.stop()
                after = tuple(known_storages(stepper))
        finally:
            observer.unregister_callback()
        with without_collector():
            profiler.export_chrome_trace(str(profile_file))
            records, trace = _read_records(profile_file, trace_file)
            recording = read_recording(profiler)
            begin, end = recording.steps[-1]
            ops = tuple(nest(op for op in recording.ops if begin <= op.start <= end))
            return GraphPass(
                ops=ops,
                nodes=tuple(_join(op, records, trace) for op in ops),
                recording=recording,
                lines=lines,
                begin=begin,
                end=end,
                modules={id(module): name for name, module in stepper.workload.model.named_modules()},
                before=before,
                after=after,
            )


def _read_records(profile_file: Path, trace_file: Path) -> tuple[dict[int, int], dict[int, TraceNode]]:
    """Return record function ids and trace nodes. Raises HotbenchError where the profiler wrote no whole file.

    torch reports a failed write on stderr only: a file that is missing or cut off is how it shows.
    """
    try:
        return _record_ids(profile_file), read_execution_trace(trace_file)
    except (OSError, ValueError, KeyError) as error:
        raise HotbenchError(
            f"the profiler's record in {profile_file.parent} is not whole ({type(error).__name__}); free space in the "
            "temporary folder, or name another one in TMPDIR"
        ) from error


def _record_ids(path: Path) -> dict[int, int]:
    """Return the record function id of each profiled op by its External id (the tree's correlation id)."""
    events = json.loads(path.read_bytes())["traceEvents"]
    return {
        event["args"]["External id"]: event["args"]["Record function id"]
        for event in events
        if "Record function id" in event.get("args", ()) and "External id" in event["args"]
    }


def _join(op: OpEvent, records: dict[int, int], trace: dict[int, TraceNode]) -> TraceNode | None:
    """Return the op's trace node. An id that leads to another name joins nothing: no tensors beat wrong ones."""
    node = trace.get(records.get(op.correlation, -1))
    return node if node is not None and node.name == op.name else None


def known_storages(stepper: Stepper) -> Iterator[KnownStorage]:
    """Yield the storages that the workload holds between steps, each once, the first category that fits."""
    seen: set[tuple[str, int]] = set()
    for tree, category in _held(stepper.workload, stepper):
        for storage in _storages_of(tree, category):
            key = storage.device, storage.address
            if key not in seen:
                seen.add(key)
                yield storage


def _held(workload: Workload, stepper: Stepper) -> Iterator[tuple[Any, str]]:
    model = workload.model
    yield list(model.parameters()), "parameter"
    # Buffers are part of the model's state as parameters are; there is no category of their own.
    yield list(model.buffers()), "parameter"
    yield [parameter.grad for parameter in model.parameters()], "gradient"
    for optimizer in _optimizers(workload):
        for group in optimizer.param_groups:
            yield [parameter.grad for parameter in group["params"]], "gradient"
            yield group["params"], "parameter"
        yield list(optimizer.state.values()), "optimizer_state"
    yield stepper.batch, "input"


def _optimizers(workload: Workload) -> list[torch.optim.Optimizer]:
    """Return the workload's optimizer; for a step of the user's own, every one alive over the model's parameters."""
    if workload.optimizer is not None:
        return [workload.optimizer]
    if workload.step is None:
        return []
    mine = {id(parameter) for parameter in workload.model.parameters()}
    # type(), not isinstance: asking lazy proxies for their class makes some of them import things.
    found = [item for item in gc.get_objects() if issubclass(type(item), torch.optim.Optimizer)]
    return [
        optimizer
        for optimizer in found
        if any(id(parameter) in mine for group in optimizer.param_groups for parameter in group["params"])
    ]


def _storages_of(tree: Any, category: str) -> Iterable[KnownStorage]:
    for leaf in pytree.tree_leaves(tree):
        if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided:
            storage = leaf.untyped_storage()
            yield KnownStorage(storage.data_ptr(), storage.nbytes(), str(leaf.device), category)
