"""The data-flow graph of one step: every executed op, the tensors between them, and who wrote them last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from analyzer.measurement import Measurement

CATEGORIES = ("parameter", "gradient", "optimizer_state", "activation", "temporary", "input", "unknown")
PHASES = ("forward", "backward", "optimizer", "other")


class GraphError(ValueError):
    """A graph that contradicts itself: our own bug or a corrupt file."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One version of a tensor: what one op wrote (or what existed before the step).

    index:    position in Graph.tensors.
    storage:  identity of the memory behind it, unique in the graph (recycled addresses get a new one);
              two tensors with the same storage alias each other.
    producer: index of the op that wrote it; -1 when it existed before the step.
    offset, strides: in elements, relative to the storage.
    nbytes:   elements x item size (not the storage's size).
    """

    index: int
    storage: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    device: str
    nbytes: int
    producer: int
    category: str = "temporary"


@dataclass(frozen=True, slots=True)
class Op:
    """One executed op.

    index:        position in Graph.ops, in order of start.
    parent:       index of the op that called it; -1 at the top. A leaf has no children.
    inputs, outputs: indices into Graph.tensors, in the order of the op's arguments.
    arguments:    the concrete non-tensor arguments as one JSON text, a list of [name, value]; "[]" when there are none.
    scope:        module path, such as "encoder.layers.0.linear1"; "" outside a module.
    source:       the user's own line, "file.py:42"; "" when none is on the stack.
    forward_op:   for a backward op, the op whose gradient it computes; -1 otherwise.
    self_seconds: time in the op itself, children excluded, over the timing pass; None if it was not joined.
    device_seconds: time of its kernels on the device; None on a CPU.
    flops:        floating-point operations of the op itself; 0.0 where it has none or they are not known.
    bytes_moved:  bytes read and written if each tensor moves once; 0 for a view.
    mutates:      indices of input tensors that it writes in place.
    executes:     it does work of its own: a leaf, or an op with a kernel that calls helpers on the way (addmm calls
                  expand). False for an op that only calls others; FLOPs, bytes and edges belong to ops that execute.
    """

    index: int
    name: str
    parent: int
    phase: str
    thread: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    arguments: str = "[]"
    scope: str = ""
    source: str = ""
    forward_op: int = -1
    self_seconds: Measurement | None = None
    device_seconds: Measurement | None = None
    flops: float = 0.0
    bytes_moved: int = 0
    mutates: tuple[int, ...] = ()
    executes: bool = True


@dataclass(frozen=True, slots=True)
class Edge:
    """Data flows from `source` to `target`, which reads `tensor`.

    The source wrote bytes of the tensor's storage that still stood when the target read them, through whatever alias,
    or it made the view that the target reads through. Both ends execute.
    """

    source: int
    target: int
    tensor: int


@dataclass(frozen=True)
class Graph:
    """Ops in order of start, tensors by index, and the edges between ops that execute."""

    ops: tuple[Op, ...]
    tensors: tuple[Tensor, ...]
    edges: tuple[Edge, ...]

    def check(self) -> Graph:
        """Return the graph itself. Raises GraphError where indices, edges, phases or categories do not hold."""
        for position, op in enumerate(self.ops):
            if op.index != position or not -1 <= op.parent < position:
                raise GraphError(f"op {op.name} at {position} has index {op.index} and parent {op.parent}")
            if op.phase not in PHASES:
                raise GraphError(f"op {op.name} at {position} has phase {op.phase!r}; known: {', '.join(PHASES)}")
            for tensor in (*op.inputs, *op.outputs, *op.mutates):
                if not 0 <= tensor < len(self.tensors):
                    raise GraphError(f"op {op.name} at {position} names tensor {tensor} of {len(self.tensors)}")
        for position, tensor_value in enumerate(self.tensors):
            if tensor_value.index != position or not -1 <= tensor_value.producer < len(self.ops):
                raise GraphError(f"tensor at {position} has index {tensor_value.index}, op {tensor_value.producer}")
            if tensor_value.category not in CATEGORIES:
                raise GraphError(f"tensor {position} has category {tensor_value.category!r}")
            if len(tensor_value.shape) != len(tensor_value.strides):
                raise GraphError(f"tensor {position} has shape {tensor_value.shape}, strides {tensor_value.strides}")
        for edge in self.edges:
            if not (0 <= edge.source < len(self.ops) and 0 <= edge.target < len(self.ops)):
                raise GraphError(f"edge {edge.source} -> {edge.target} leaves the graph of {len(self.ops)} ops")
            if edge.source >= edge.target:
                raise GraphError(f"edge {edge.source} -> {edge.target} runs backwards in time")
            if edge.tensor not in self.ops[edge.target].inputs:
                raise GraphError(f"edge {edge.source} -> {edge.target}: the target does not read tensor {edge.tensor}")
        return self

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """Return, for each op, the indices of the ops that it called."""
        lists: list[list[int]] = [[] for _ in self.ops]
        for op in self.ops:
            if op.parent >= 0:
                lists[op.parent].append(op.index)
        return tuple(tuple(row) for row in lists)

    @cached_property
    def readers(self) -> dict[int, tuple[int, ...]]:
        """Return the ops that read each tensor, by its index; a tensor that none reads is left out."""
        found: dict[int, list[int]] = {}
        for edge in self.edges:
            found.setdefault(edge.tensor, []).append(edge.target)
        return {tensor: tuple(ops) for tensor, ops in found.items()}

    def leaves(self) -> Iterator[Op]:
        """Yield the ops that call no other op."""
        return (op for op in self.ops if not self.children[op.index])

    @cached_property
    def top_level_of(self) -> tuple[int, ...]:
        """Return, for each op, the outermost ATen op that it is part of; -1 for one that is part of none.

        The outermost ATen op is what the program asked of the framework: aten::linear, not the aten::addmm in it.
        """
        tops: list[int] = []
        for op in self.ops:
            above = tops[op.parent] if op.parent >= 0 else -1
            tops.append(above if above >= 0 else op.index if op.name.startswith("aten::") else -1)
        return tuple(tops)

    def top_level(self) -> Iterator[Op]:
        """Yield the ATen ops that no other ATen op called."""
        return (op for op in self.ops if self.top_level_of[op.index] == op.index)
