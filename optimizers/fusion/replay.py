"""Parts of a captured graph and kernels of its program, called again on the values that the model really has."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import torch

from kernels.compiler.ir import Buffer
from kernels.compiler.loop_ir import LoopProgram
from optimizers.fusion.graph import ITEM_BYTES


class ArrayKernel(Protocol):
    """What a kernel that works on one array a buffer is made of: a region, a product, a convolution."""

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """Return the memory that it is called with, in order."""
        ...

    def key(self) -> str:
        """Return a hash of everything that the generated code depends on."""
        ...


Body = ArrayKernel | LoopProgram
"""What a kernel of a program is made of."""
BIASED = frozenset(("aten.addmm.default", "hotbench.quantized_linear.default"))
"""Products whose bias a kernel adds: they are left out of what that replaces, and the bias counts as free."""


def part_of(nodes: Sequence[torch.fx.Node], names: Collection[str], products: bool = False) -> list[torch.fx.Node]:
    """Return the nodes called `names` and the views between them, in the graph's order: eager makes those views too.

    nodes: all nodes of the graph. products: the kernel computes products; else those whose bias it adds are left out.
    """
    wanted = set(names)
    members = {node for node in nodes if node.name in wanted and (products or str(node.target) not in BIASED)}
    return with_views(nodes, members)


def with_views(nodes: Sequence[torch.fx.Node], members: set[torch.fx.Node]) -> list[torch.fx.Node]:
    """Return the members and the views between them, in order."""
    inside = set(members)
    for node in nodes:
        views = node.op == "call_function" and node.all_input_nodes and all(i in inside for i in node.all_input_nodes)
        if views and node not in inside and any(user in members for user in _users_through(node)):
            inside.add(node)
    return [node for node in nodes if node in inside and node.op == "call_function"]


def _users_through(node: torch.fx.Node) -> list[torch.fx.Node]:
    return [user for direct in node.users for user in (direct, *direct.users)]


def evaluate_node(node: torch.fx.Node, values: Mapping[torch.fx.Node, Any]) -> Any:
    """Return what a node computes of the values of the nodes before it."""
    args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda inner: values[inner])
    return node.target(*args, **kwargs)  # type: ignore[operator]


def operands_of(part: Sequence[torch.fx.Node]) -> list[torch.fx.Node]:
    """Return the nodes outside the part that it reads, each once."""
    inside = set(part)
    return list(dict.fromkeys(inner for node in part for inner in node.all_input_nodes if inner not in inside))


def caller(part: Sequence[torch.fx.Node], values: Mapping[torch.fx.Node, Any]) -> Callable[[], Any]:
    """Return a function that runs the nodes as straight-line Python, on operands that are bound once."""
    graph = torch.fx.Graph()
    outside = operands_of(part)
    copies = {inner: graph.placeholder(inner.name) for inner in outside}
    for node in part:
        copies[node] = graph.node_copy(node, lambda inner: copies[inner])
    graph.output(None)
    forward = torch.fx.GraphModule(torch.nn.Module(), graph).forward
    operands = tuple(values[inner] for inner in outside)
    return lambda: forward(*operands)


def memory_sizes(kernel: Body) -> tuple[int, ...]:
    """Return the bytes behind each address that a kernel is called with."""
    if isinstance(kernel, LoopProgram):
        return tuple(buffer.nbytes for buffer in kernel.buffers)
    return tuple(buffer.elements * ITEM_BYTES[buffer.dtype] for buffer in kernel.buffers)


def copy_memory(address: int, nbytes: int) -> torch.Tensor:
    """Return a copy of the bytes at an address."""
    copied = torch.empty(nbytes, dtype=torch.uint8)
    ctypes.memmove(copied.data_ptr(), address, nbytes)
    return copied
