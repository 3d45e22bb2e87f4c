"""Puts the passes together: the graph with its times, categories and costs, and the memory profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analyzer import costs
from analyzer.capture.alignment import join_times
from analyzer.capture.attribution import Origin, attribute
from analyzer.capture.dataflow import Dataflow, build_dataflow
from analyzer.capture.devicework import DeviceStep, DeviceWork, join_device_work
from analyzer.capture.graphpass import GraphPass, KnownStorage
from analyzer.capture.recording import OpEvent
from analyzer.capture.stepops import StepOps, step_ops, thread_major
from analyzer.capture.storages import Storage, StorageTable
from analyzer.graph import Graph, Op, Tensor
from analyzer.measurement import Measurement
from analyzer.memory import Block, categorise_storages, profile_memory
from analyzer.run import Coverage, Kernel, MemoryProfile

ACCUMULATE = "torch::autograd::AccumulateGrad"


@dataclass(frozen=True)
class Assembled:
    """What the passes say together; the device's figures are None, and its kernels (), on a CPU."""

    graph: Graph
    memory: MemoryProfile
    coverage: Coverage
    busy_seconds: float | None
    idle_seconds: float | None
    kernels: tuple[Kernel, ...]
    notes: tuple[str, ...]


def assemble(
    recorded: GraphPass, timed: Sequence[StepOps], device_steps: Sequence[DeviceStep], device: str
) -> Assembled:
    """Return the graph, its memory profile on `device`, and how much of the step they explain."""
    flow = build_dataflow(
        recorded.ops, recorded.nodes, recorded.recording.allocations, recorded.begin,
        lambda table: _enter(table, recorded.before, recorded.begin),
        lambda table: _enter(table, recorded.after, recorded.end),
    )  # fmt: skip
    events = list(recorded.ops)
    order, names = thread_major(events), step_ops(events).names
    times = _in_graph_order(order, join_times(names, timed))
    work = join_device_work(names, order, device_steps) if device_steps else None
    on_device = work.op_seconds if work is not None else (None,) * len(events)
    threads = _thread_numbers(events)
    ops = [
        _op(index, recorded, origin, flow, threads[events[index].thread], (times[index], on_device[index]))
        for index, origin in enumerate(attribute(recorded))
    ]
    categories = _categories(ops, flow)
    tensors = tuple(replace(tensor, category=categories[tensor.storage]) for tensor in flow.tensors)
    memory = profile_memory(_blocks(recorded, flow.storages, categories, device))
    return Assembled(
        graph=Graph(tuple(ops), tensors, flow.edges).check(),
        memory=memory,
        coverage=_coverage(recorded, ops, memory),
        busy_seconds=work.busy_seconds if work is not None else None,
        idle_seconds=work.idle_seconds if work is not None else None,
        kernels=work.kernels if work is not None else (),
        notes=_orphan_notes(work) if work is not None else (),
    )


def _thread_numbers(events: Sequence[OpEvent]) -> dict[int, int]:
    """Return 1, 2, ... for the threads in order of their first op."""
    numbers: dict[int, int] = {}
    for event in events:
        numbers.setdefault(event.thread, len(numbers) + 1)
    return numbers


def _in_graph_order(order: Sequence[int], values: Sequence[Measurement | None]) -> list[Measurement | None]:
    """Return values that stand thread by thread back in order of start."""
    ordered: list[Measurement | None] = [None] * len(order)
    for index, value in zip(order, values, strict=True):
        ordered[index] = value
    return ordered


def _orphan_notes(work: DeviceWork) -> tuple[str, ...]:
    return tuple(f"{count} kernel(s) of a step linked to no op: {reason}" for reason, count in work.orphans.items())


def _enter(table: StorageTable, storages: Sequence[KnownStorage], time: int) -> None:
    for storage in storages:
        table.known(storage.address, storage.bytes, storage.device, storage.category, time)


def _op(
    index: int,
    recorded: GraphPass,
    origin: Origin,
    dataflow: Dataflow,
    thread: int,
    seconds: tuple[Measurement | None, Measurement | None],
) -> Op:
    event, node, flow = recorded.ops[index], recorded.nodes[index], dataflow.flows[index]
    op = Op(
        index=index,
        name=event.name,
        parent=event.parent,
        phase=origin.phase,
        thread=thread,
        inputs=flow.inputs,
        outputs=flow.outputs,
        arguments=node.arguments if node is not None else "[]",
        scope=origin.scope,
        source=origin.source,
        forward_op=origin.forward_op,
        self_seconds=seconds[0],
        device_seconds=seconds[1],
        mutates=flow.mutates,
        executes=flow.executes,
    )
    return _with_costs(op, dataflow.tensors) if flow.executes else op


def _with_costs(op: Op, tensors: Sequence[Tensor]) -> Op:
    """Return the op with FLOPs and bytes; an op that only calls others has none of its own."""
    inputs, outputs = [tensors[i] for i in op.inputs], [tensors[i] for i in op.outputs]
    written = [tensors[i] for i in op.mutates]
    flops = costs.flops(op.name, [t.shape for t in inputs], [t.shape for t in outputs], op.arguments)
    return replace(op, flops=flops, bytes_moved=costs.bytes_moved(op.name, inputs, outputs, written))


def _categories(ops: Sequence[Op], flow: Dataflow) -> dict[int, str]:
    known = {storage.index: storage.category for storage in flow.storages if storage.category}
    before = [storage.index for storage in flow.storages if storage.before]
    categories = categorise_storages(ops, flow.tensors, known, before)
    for op in ops:
        if op.name == ACCUMULATE or (op.parent >= 0 and ops[op.parent].name == ACCUMULATE):
            for index in op.outputs:
                storage = flow.tensors[index].storage
                categories[storage] = known.get(storage, "gradient")
    return {storage.index: categories.get(storage.index, "temporary") for storage in flow.storages}


def _blocks(recorded: GraphPass, storages: Sequence[Storage], categories: dict[int, str], device: str) -> list[Block]:
    """Return the blocks on the device that are alive at some time of the step, in seconds since it began."""
    kind = device.partition(":")[0]
    begin, end = recorded.begin, recorded.end
    return [
        Block(
            storage.index,
            storage.bytes,
            categories[storage.index],
            None if storage.before else (storage.born - begin) * 1e-9,
            (storage.released - begin) * 1e-9 if storage.released is not None and storage.released <= end else None,
        )
        for storage in storages
        if storage.device.partition(":")[0] == kind
        and (storage.released is None or storage.released >= begin)
        and (storage.before or begin <= storage.born <= end)
    ]


def _coverage(recorded: GraphPass, ops: Sequence[Op], memory: MemoryProfile) -> Coverage:
    unknown = memory.at_peak.get("unknown", 0)
    return Coverage(
        timed_ops=_share(sum(op.self_seconds is not None for op in ops), len(ops)),
        joined_ops=_share(sum(node is not None for node in recorded.nodes), len(ops)),
        categorised_bytes=_share(memory.peak_bytes - unknown, memory.peak_bytes),
    )


def _share(part: int, whole: int) -> float:
    """Return part / whole; of nothing, nothing is missing."""
    return part / whole if whole else 1.0
