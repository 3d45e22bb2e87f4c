"""Channels last: the captured graph once more, in the memory layout in which convolutions are products of rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from optimizers.fusion.capture import Captured

ORIGINAL = "@nchw"
"""Among the nodes that stay with the library: the graph stays in the layout in which it was captured."""
_CONVOLUTION = torch.ops.aten.convolution.default
_CLONE = torch.ops.aten.clone.default
_VIEWS = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)
_MOST_RESTORED = 4


class _KeepLayoutError(Exception):
    """The graph depends on the layout that it was captured in."""


def is_channels_last(tensor: torch.Tensor) -> bool:
    """Return whether the channels of a 4-D tensor are adjacent, and it has no gaps."""
    return tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)


def arranged(captured: Captured, excluded: Collection[str] = ()) -> Captured:
    """Return the same graph with 2-D convolutions, and what stands between them, in channels-last memory.

    Nodes keep their names; copies into the layout are called NODE_laid. Outputs have the strides that they had. The
    graph is returned as it is where it has no float32 convolutions, where `excluded` holds ORIGINAL, where it draws
    random numbers (their order is the layout's) or is a training step (what it saves has a layout).
    """
    nodes = captured.graph.graph.nodes
    if ORIGINAL in excluded or not any(_is_convolution(node) for node in nodes) or any(map(_is_bound, nodes)):
        return captured
    try:
        graph = _Arrangement(captured.graph).graph()
    except _KeepLayoutError:
        return captured
    return replace(captured, graph=torch.fx.GraphModule(captured.graph, graph))


def _is_convolution(node: torch.fx.Node) -> bool:
    """Return whether it is a 2-D float32 convolution that is not transposed."""
    if node.target is not _CONVOLUTION or node.args[6]:
        return False
    value = node.meta["val"]
    return bool(value.dim() == 4 and value.dtype == torch.float32 and value.numel() > 0)


def _is_bound(node: torch.fx.Node) -> bool:
    """Return whether what the node computes depends on layouts."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return False
    name = str(target)
    return "as_strided" in name or "backward" in name or torch.Tag.nondeterministic_seeded in target.tags


class _Arrangement:
    """Copies a graph node by node, with fake tensors that tell the strides of every value."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        self.module = module
        self.new = torch.fx.Graph()
        self.copies: dict[torch.fx.Node, torch.fx.Node] = {}

    def graph(self) -> torch.fx.Graph:
        """Return the copy. Raises _KeepLayoutError where the graph cannot be moved to another layout."""
        for node in self.module.graph.nodes:
            if node.op == "output":
                self.new.output([self._restored(item) for item in node.args[0]])
            else:
                self.copies[node] = self._copy(node)
        return self.new

    def _copy(self, node: torch.fx.Node) -> torch.fx.Node:
        if node.op != "call_function":
            return self._named(self.new.node_copy(node, self._operand), node)
        if _is_convolution(node):
            source = self.copies[node.args[0]]  # type: ignore[index]
            laid = self._laid(source, f"{node.name}_laid", torch.channels_last)
            copy = self._named(self.new.node_copy(node, self._operand), node)
            copy.replace_input_with(source, laid)
            copy.meta["val"] = node.meta["val"].contiguous(memory_format=torch.channels_last)
            return copy
        copy = self._named(self.new.node_copy(node, self._operand), node)
        try:
            copy.meta["val"] = _viewed(copy) if copy.target in _VIEWS else _evaluated(copy)
        except (RuntimeError, ValueError):
            self._view_of_a_copy(copy)
        return copy

    def _operand(self, node: torch.fx.Node) -> torch.fx.Node:
        return self.copies[node]

    def _named(self, copy: torch.fx.Node, node: torch.fx.Node) -> torch.fx.Node:
        if copy.name != node.name:
            raise _KeepLayoutError
        copy.meta = dict(node.meta)
        return copy

    def _view_of_a_copy(self, copy: torch.fx.Node) -> None:
        """Let a view that the layout forbids read a contiguous copy."""
        if copy.target not in _VIEWS:
            raise _KeepLayoutError
        source = copy.all_input_nodes[0]
        with self.new.inserting_before(copy):
            laid = self._laid(source, f"{copy.name}_laid", torch.contiguous_format)
        copy.replace_input_with(source, laid)
        try:
            copy.meta["val"] = _evaluated(copy)
        except (RuntimeError, ValueError) as error:
            raise _KeepLayoutError from error

    def _laid(self, source: torch.fx.Node, name: str, layout: torch.memory_format) -> torch.fx.Node:
        value = source.meta["val"]
        if value.is_contiguous(memory_format=layout):
            return source
        made = self.new.create_node("call_function", _CLONE, (source,), {"memory_format": layout}, name=name)
        made.meta["val"] = value.clone(memory_format=layout)
        return made

    def _restored(self, item: Any) -> Any:
        """Return an output in the layout that it had."""
        if not isinstance(item, torch.fx.Node):
            return item
        copy, wanted = self.copies[item], item.meta["val"]
        if not isinstance(wanted, torch.Tensor) or copy.meta["val"].stride() == wanted.stride():
            return copy
        # A view shares memory with others, which the caller may see.
        alone = not _is_view(item) and not any(_is_view(user) for user in item.users)
        restored = sum(node.name.endswith("_restored") for node in self.new.nodes)
        if not alone or not wanted.is_contiguous() or restored >= _MOST_RESTORED:
            raise _KeepLayoutError
        made = self._laid(copy, f"{item.name}_restored", torch.contiguous_format)
        self.copies[item] = made
        return made


def _evaluated(node: torch.fx.Node) -> Any:
    """Return the node's value, fake tensors in and out."""
    fakes = [inner.meta.get("val") for inner in node.all_input_nodes]
    mode = next((t.fake_mode for t in pytree.tree_leaves(fakes) if hasattr(t, "fake_mode")), None)
    if mode is None:
        return node.meta.get("val")
    args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda inner: inner.meta["val"])
    with mode, torch.no_grad():
        return node.target(*args, **kwargs)  # type: ignore[operator]


def _viewed(node: torch.fx.Node) -> Any:
    """Return the value of a view. Raises RuntimeError where memory forbids it: of one row, fake tensors allow any."""
    source = node.all_input_nodes[0].meta["val"]
    shape, strides = tuple(map(int, source.shape)), tuple(map(int, source.stride()))
    wanted: Any = node.args[1]
    torch.empty_strided(shape, strides, device="meta").view(wanted)
    return _evaluated(node)


def _is_view(node: torch.fx.Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    return any(a.alias_info is not None and not a.alias_info.is_write for a in node.target._schema.arguments)
