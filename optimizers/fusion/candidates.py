"""Region by region: the fused kernel against the ATen ops in its place, on the values that the model really has."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from kernels.compiler.ir import Region
from optimizers.fusion.capture import Captured
from optimizers.fusion.graph import ITEM_BYTES
from optimizers.fusion.program import Program
from optimizers.fusion.regions import kernel_name
from optimizers.fusion.runtime import Kernel, KernelCall, Runner
from optimizers.fusion.timing import Comparison, compare

_BIASED = torch.ops.aten.addmm.default


@dataclass(frozen=True, slots=True)
class RegionChoice:
    """What was measured for one kernel: seconds of the ATen ops in its place (first) and of the kernel (second)."""

    kernel: str
    calls: int
    nodes: tuple[str, ...]
    comparison: Comparison

    @property
    def kept(self) -> bool:
        """Return whether the kernel is the faster one."""
        return self.comparison.ratio > 1.0


def choose_regions(
    program: Program,
    kernels: Mapping[str, Kernel],
    captured: Captured,
    weights: list[torch.Tensor],
    inputs: list[torch.Tensor],
) -> list[RegionChoice]:
    """Return a measured choice for each distinct kernel of `program`, equal kernels being measured once."""
    first: dict[str, int] = {}
    calls: dict[str, int] = {}
    for number, bound in program.bounds.items():
        name = kernel_name(bound.region)
        first.setdefault(name, number)
        calls[name] = calls.get(name, 0) + 1
    replays, held = _record_kernels(program, kernels, weights, inputs)
    wanted = {name: program.bounds[number].nodes for name, number in first.items()}
    originals = _record_nodes(captured, wanted, [*weights, *inputs])
    choices = []
    for name, nodes in wanted.items():
        comparison = compare(originals[name], replays[name], budget_seconds=0.05, block_seconds=0.0005)
        choices.append(RegionChoice(name, calls[name], nodes, comparison))
    del held  # the copies that the replayed kernels worked on
    return choices


def _record_kernels(
    program: Program, kernels: Mapping[str, Kernel], weights: list[torch.Tensor], inputs: list[torch.Tensor]
) -> tuple[dict[str, Callable[[], Any]], list[torch.Tensor]]:
    """Return, for each kernel, a call of it on copies of the memory that its first call saw, and those copies."""
    replays: dict[str, Callable[[], Any]] = {}
    held: list[torch.Tensor] = []

    def wrap(name: str, call: KernelCall) -> KernelCall:
        if name not in program.regions:
            return call  # a loop, which is judged with the whole program

        def recorded(*addresses: int) -> None:
            if name not in replays:
                copies = [_copy(program.regions[name], k, address) for k, address in enumerate(addresses)]
                held.extend(copies)
                arguments = tuple(copy.data_ptr() for copy in copies)
                replays[name] = partial(call, *arguments)
            call(*addresses)

        return recorded

    Runner(program, kernels, wrap)(weights, inputs)
    return replays, held


def _copy(region: Region, position: int, address: int) -> torch.Tensor:
    buffer = region.buffers[position]
    nbytes = buffer.elements * ITEM_BYTES[buffer.dtype]
    copy = torch.empty(nbytes, dtype=torch.uint8)
    ctypes.memmove(copy.data_ptr(), address, nbytes)
    return copy


def _record_nodes(
    captured: Captured, wanted: Mapping[str, tuple[str, ...]], tensors: list[torch.Tensor]
) -> dict[str, Callable[[], Any]]:
    """Return, for each kernel, a call of the captured nodes that it replaces, on their real operands.

    Matrix products whose bias a kernel adds are left out on both sides: the bias counts as free for ATen.
    """
    nodes = list(captured.graph.graph.nodes)
    by_name = {node.name: node for node in nodes}
    parts = {
        name: _with_views(nodes, {by_name[node] for node in members if by_name[node].target is not _BIASED})
        for name, members in wanted.items()
    }
    needed = {inner for part in parts.values() for node in part for inner in node.all_input_nodes}
    values: dict[torch.fx.Node, Any] = {}
    last = {inner: node for node in nodes for inner in node.all_input_nodes}
    placeholders = iter(tensors)
    for node in nodes:
        if node.op == "placeholder":
            values[node] = next(placeholders)
        elif node.op == "get_attr":
            values[node] = getattr(captured.graph, str(node.target))
        elif node.op == "call_function":
            values[node] = _evaluate(node, values)
        for inner in node.all_input_nodes:
            if last[inner] is node and inner not in needed:
                values.pop(inner, None)
    return {name: _caller(part, values) for name, part in parts.items()}


def _with_views(nodes: list[torch.fx.Node], members: set[torch.fx.Node]) -> list[torch.fx.Node]:
    """Return the members and the views between them, in order: eager makes those views too."""
    inside = set(members)
    for node in nodes:
        views = node.op == "call_function" and node.all_input_nodes and all(i in inside for i in node.all_input_nodes)
        if views and node not in inside and any(user in members for user in _users_through(node)):
            inside.add(node)
    return [node for node in nodes if node in inside and node.op == "call_function"]


def _users_through(node: torch.fx.Node) -> list[torch.fx.Node]:
    return [user for direct in node.users for user in (direct, *direct.users)]


def _evaluate(node: torch.fx.Node, values: Mapping[torch.fx.Node, Any]) -> Any:
    args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda inner: values[inner])
    return node.target(*args, **kwargs)  # type: ignore[operator]


def _caller(part: list[torch.fx.Node], values: Mapping[torch.fx.Node, Any]) -> Callable[[], Any]:
    """Return a function that runs the nodes as straight-line Python, on operands that are bound once."""
    graph = torch.fx.Graph()
    outside = list(dict.fromkeys(inner for node in part for inner in node.all_input_nodes if inner not in part))
    copies = {inner: graph.placeholder(inner.name) for inner in outside}
    for node in part:
        copies[node] = graph.node_copy(node, lambda inner: copies[inner])
    graph.output(None)
    forward = torch.fx.GraphModule(torch.nn.Module(), graph).forward
    operands = tuple(values[inner] for inner in outside)
    return lambda: forward(*operands)
