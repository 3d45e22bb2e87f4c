"""Tensors, writers and edges of one step, from its trace and the allocator's events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from analyzer import costs
from analyzer.capture.executiontrace import TensorUse, TraceNode
from analyzer.capture.recording import AllocatorEvent, OpEvent
from analyzer.capture.storages import END, START, Storage, StorageTable, events_in_order
from analyzer.capture.writes import Writes
from analyzer.graph import Edge, Tensor

Geometry = tuple[int, int, tuple[int, ...], tuple[int, ...], str]
"""Storage, offset, shape, strides and dtype: what makes two tensor handles the same tensor."""


@dataclass(slots=True)
class OpFlow:
    """What one op reads and writes: tensors by index. `executes` is False for an op that only calls others."""

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    mutates: tuple[int, ...] = ()
    executes: bool = False


@dataclass(frozen=True)
class Dataflow:
    """The tensors of a step, each op's flow, the edges, and every block of memory."""

    flows: tuple[OpFlow, ...]
    tensors: tuple[Tensor, ...]
    edges: tuple[Edge, ...]
    storages: tuple[Storage, ...]


@dataclass(slots=True)
class _Open:
    """An op that has begun: its inputs' storages by trace id, and the writes that its callees did."""

    begun: int
    inputs: list[tuple[TensorUse, Storage, int]] = field(default_factory=list)
    written_below: dict[int, frozenset[int]] = field(default_factory=dict)
    """Storage that a callee wrote -> the storages whose data went into it."""


def build_dataflow(
    ops: Sequence[OpEvent],
    nodes: Sequence[TraceNode | None],
    allocations: Sequence[AllocatorEvent],
    begin: int,
    at_begin: Callable[[StorageTable], None],
    at_end: Callable[[StorageTable], None],
) -> Dataflow:
    """Return the data flow of the step that begins at `begin`.

    allocations: of the whole recording; those before `begin` only say what is alive then.
    at_begin, at_end: enter what the workload knows of live storages.
    """
    sweep = _Sweep(ops, nodes)
    earlier = [event for event in allocations if event.time < begin]
    for event in earlier:
        sweep.memory(event, before=True)
    at_begin(sweep.table)
    during = allocations[len(earlier) :]
    for time, kind, index in events_in_order(ops, during):
        if kind == START:
            sweep.start(index, time)
        elif kind == END:
            sweep.end(index, time)
        else:
            sweep.memory(during[index], before=False)
    at_end(sweep.table)
    return sweep.result()


class _Sweep:
    """One walk through the step in order of time."""

    def __init__(self, ops: Sequence[OpEvent], nodes: Sequence[TraceNode | None]) -> None:
        self.table = StorageTable()
        self._ops, self._nodes = ops, nodes
        self._clock = 0
        self._open: dict[int, _Open] = {}
        self._stacks: dict[int, list[int]] = {}
        self._flows = [OpFlow() for _ in ops]
        self._has_children = [False] * len(ops)
        for op in ops:
            if op.parent >= 0:
                self._has_children[op.parent] = True
        self._tensors: list[Tensor] = []
        self._latest: dict[Geometry, int] = {}
        self._writes = Writes()
        self._pending: list[Edge] = []

    def memory(self, event: AllocatorEvent, before: bool) -> None:
        stack = self._stacks.get(event.thread)
        if event.bytes > 0:
            self.table.allocate(event, stack[-1] if stack else -1, before)
        else:
            self.table.release(event)

    def start(self, index: int, time: int) -> None:
        self._clock += 1
        opened = self._open[index] = _Open(self._clock)
        self._stacks.setdefault(self._ops[index].thread, []).append(index)
        node = self._nodes[index]
        if node is None:
            return
        addresses = self._ops[index].storages
        # Where the two lists differ in length (an undefined tensor), positions say nothing: trust the trace's ids.
        known = addresses if len(addresses) == len(node.inputs) else (0,) * len(node.inputs)
        for use, address in zip(node.inputs, known, strict=True):
            storage = self.table.read(use, address, self._clock, time)
            opened.inputs.append((use, storage, self._tensor_read(use, storage)))
        self._flows[index].inputs = tuple(tensor for _, _, tensor in opened.inputs)
        self._depend(index, opened)

    def end(self, index: int, time: int) -> None:
        self._clock += 1
        self._stacks[self._ops[index].thread].pop()
        opened, node, flow = self._open.pop(index), self._nodes[index], self._flows[index]
        if node is None:
            self._hand_up(index, opened.written_below)
            return
        mutated = {storage.index for use, storage, _ in opened.inputs if use.argument in node.mutated}
        outputs = [self._output_storage(index, use, opened, time) for use in node.outputs]
        written = self._own_writes(index, node, opened, outputs, mutated)
        flow.executes = bool(node.schema) and (bool(written) or not self._has_children[index])
        new = self._record_writes(index, written)
        flow.mutates = tuple(tensor for use, _, tensor in opened.inputs if use.argument in node.mutated)
        flow.outputs = tuple(self._result(index, use, storage, opened, new) for use, storage in outputs)
        below = dict(opened.written_below)
        if costs.base_name(node.name) not in costs.ALLOCATORS:
            sources = frozenset(storage.index for _, storage, _ in opened.inputs)
            below |= {storage.index: below.get(storage.index, frozenset()) | sources for _, storage in written}
        self._hand_up(index, below)

    def result(self) -> Dataflow:
        kept = {index for index, flow in enumerate(self._flows) if flow.executes}
        edges = sorted(
            {edge for edge in self._pending if edge.target in kept and edge.source in kept},
            key=lambda edge: (edge.target, edge.source, edge.tensor),
        )
        return Dataflow(tuple(self._flows), tuple(self._tensors), tuple(edges), tuple(self.table.storages))

    def _depend(self, index: int, opened: _Open) -> None:
        """Note an edge from each op whose data this one reads, and from the op that made the view it reads through."""
        for use, storage, tensor in opened.inputs:
            sources = {write.op for write in self._writes.visible(storage.index, use.span)}
            producer = self._tensors[tensor].producer
            if producer >= 0:
                sources.add(producer)
            self._pending += [Edge(source, index, tensor) for source in sources if source < index]

    def _output_storage(self, index: int, use: TensorUse, opened: _Open, time: int) -> tuple[TensorUse, Storage]:
        for seen, storage, _ in opened.inputs:
            # A resized storage keeps its id but moves to a new block.
            if seen.storage == use.storage and (use.span[1] <= storage.bytes or storage.bytes == 0 == use.elements):
                return use, storage
        return use, self.table.written(use, index, opened.begun, self._clock, time)

    def _own_writes(
        self,
        index: int,
        node: TraceNode,
        opened: _Open,
        outputs: list[tuple[TensorUse, Storage]],
        mutated: set[int],
    ) -> list[tuple[TensorUse, Storage]]:
        """Return what the op itself wrote; a view changed in place (resize_, t_) writes nothing."""
        if not node.schema or costs.is_view(node.name) or (mutated and costs.is_allocator(node.name)):
            return []
        inputs = {storage.index for _, storage, _ in opened.inputs}
        own_kernel = self._has_children[index] and has_own_kernel(node.overload)
        candidates = outputs + [(use, storage) for use, storage, _ in opened.inputs if use.argument in node.mutated]
        written: dict[Geometry, tuple[TensorUse, Storage]] = {}
        for use, storage in candidates:
            if storage.index in inputs - mutated or _handed_on(storage.index, opened, own_kernel, inputs - mutated):
                continue
            written.setdefault(_geometry(use, storage), (use, storage))
        return list(written.values())

    def _record_writes(self, index: int, written: list[tuple[TensorUse, Storage]]) -> dict[Geometry, int]:
        """Enter the writes and return the new tensors by geometry."""
        new = {}
        for use, storage in written:
            new[_geometry(use, storage)] = self._add_tensor(use, storage, index)
            self._writes.enter(storage.index, index, use)
        return new

    def _result(self, index: int, use: TensorUse, storage: Storage, opened: _Open, new: dict[Geometry, int]) -> int:
        """Return the tensor of a result: what the op wrote, an input handed back, a callee's result, or a new view."""
        geometry = _geometry(use, storage)
        if geometry in new:
            return new[geometry]
        known = self._latest.get(geometry)
        if storage.index in opened.written_below and known is not None:
            return known
        for seen, _, tensor in opened.inputs:
            if seen.tensor == use.tensor and seen.shape == use.shape and seen.strides == use.strides:
                return tensor
        if known is None or not self._has_children[index]:
            return self._add_tensor(use, storage, index)
        return known

    def _tensor_read(self, use: TensorUse, storage: Storage) -> int:
        known = self._latest.get(_geometry(use, storage))
        if known is not None:
            return known
        writes = self._writes.visible(storage.index, use.span)
        return self._add_tensor(use, storage, writes[0].op if writes else -1)

    def _add_tensor(self, use: TensorUse, storage: Storage, producer: int) -> int:
        tensor = Tensor(
            index=len(self._tensors),
            storage=storage.index,
            offset=use.offset,
            shape=use.shape,
            strides=use.strides,
            dtype=use.dtype,
            device=use.device,
            nbytes=use.elements * use.item_bytes,
            producer=producer,
        )
        self._tensors.append(tensor)
        self._latest[_geometry(use, storage)] = tensor.index
        return tensor.index

    def _hand_up(self, index: int, below: dict[int, frozenset[int]]) -> None:
        """Tell the caller which storages were written, and from which; its own temporaries stand for their sources."""
        parent = self._open.get(self._ops[index].parent)
        if parent is None:
            return
        known = parent.written_below
        for storage, sources in below.items():
            expanded = frozenset().union(*(known.get(source, frozenset({source})) for source in sources))
            known[storage] = known.get(storage, frozenset()) | expanded


def _handed_on(storage: int, opened: _Open, own_kernel: bool, inputs: set[int]) -> bool:
    """Return whether callees, not the op itself, made what stands in a storage it returns.

    An op with a kernel of its own may call helpers on the way (sum calls fill_, addmm copies its bias): it hands the
    work on only where what its callees wrote holds the data of all its inputs. An op without one (ones_like, linear)
    hands it on wherever a callee wrote it.
    """
    sources = opened.written_below.get(storage)
    if sources is None:
        return False
    return not own_kernel or (bool(inputs) and inputs <= sources)


def _geometry(use: TensorUse, storage: Storage) -> Geometry:
    return storage.index, use.offset, use.shape, use.strides, use.dtype


def has_own_kernel(overload: str) -> bool:
    """Return whether an op has a kernel for a device, rather than being made of other ops."""
    try:
        return any(torch._C._dispatch_has_kernel_for_dispatch_key(overload, key) for key in ("CPU", "CUDA"))
    except RuntimeError:
        return False
