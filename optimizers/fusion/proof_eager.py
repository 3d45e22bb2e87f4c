"""The ATen ops that kernels replace: their own errors against float64, their time, FLOPs and bytes, part by part."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from analyzer.costs import bytes_moved, flops, is_view
from analyzer.graph import Tensor
from optimizers.fusion.errors import Errors, errors_of
from optimizers.fusion.replay import caller, evaluate_node, operands_of, part_of

Nodes = list[torch.fx.Node]
Values = Mapping[torch.fx.Node, Any]
Visit = Callable[[str, Nodes, Values], None]
"""(name of the part, its nodes with the views between them, the values of those nodes and of their operands)"""


def op_name(node: torch.fx.Node) -> str:
    """Return a node's op as a capture names it, such as "aten::add"; "" for what is no op, such as getitem."""
    if isinstance(node.target, torch._ops.OpOverload):
        return str(node.target._schema.name).partition(".")[0]
    return ""


def op_nodes(graph: torch.fx.GraphModule) -> Nodes:
    """Return the nodes of a captured graph that are ops and no views."""
    return [node for node in graph.graph.nodes if (name := op_name(node)) and not is_view(name)]


def visit_parts(
    graph: torch.fx.GraphModule,
    parts: Mapping[str, Sequence[str]],
    tensors: Sequence[torch.Tensor],
    visit: Visit,
    products: Collection[str] = (),
) -> None:
    """Run the graph once, op by op, and call `visit` for each part as soon as all its nodes have values.

    parts: names of nodes by the part's name. tensors: the values of the placeholders, in order. products: the names
    of the parts whose kernels compute matrix products.
    """
    nodes = list(graph.graph.nodes)
    members = {name: part_of(nodes, names, name in products) for name, names in parts.items()}
    position = {node: k for k, node in enumerate(nodes)}
    due: dict[torch.fx.Node, list[str]] = {}
    last = {inner: node for node in nodes for inner in node.all_input_nodes}
    for name, part in members.items():
        if not part:
            continue
        due.setdefault(part[-1], []).append(name)
        for node in (*part, *operands_of(part)):
            last[node] = max(last.get(node, node), part[-1], key=lambda item: position[item])
    expiring: dict[torch.fx.Node, Nodes] = {}
    for node, end in last.items():
        expiring.setdefault(end, []).append(node)
    values: dict[torch.fx.Node, Any] = {}
    placeholders = iter(tensors)
    for node in nodes:
        if node.op == "placeholder":
            values[node] = next(placeholders)
        elif node.op == "get_attr":
            values[node] = getattr(graph, str(node.target))
        elif node.op == "call_function":
            values[node] = evaluate_node(node, values)
        for name in due.get(node, ()):
            visit(name, members[name], values)
        for gone in expiring.get(node, ()):
            values.pop(gone, None)


def eager_call(part: Nodes, values: Values) -> Callable[[], Any]:
    """Return a function that runs the part's ops on their real operands."""
    return caller(part, values)


def eager_errors(part: Nodes, values: Values) -> Errors:
    """Return the errors of the part's results, as eager computed them, against the same ops in float64."""
    leaving = leaving_nodes(part)
    exact = in_float64(part, values)
    pairs = [
        (ours, theirs)
        for node in leaving
        for ours, theirs in zip(_tensors(values[node]), _tensors(exact[node]), strict=True)
    ]
    return errors_of([_flat(ours) for ours, _ in pairs], [_flat(theirs) for _, theirs in pairs])


def leaving_nodes(part: Nodes) -> Nodes:
    """Return the nodes of the part that something outside of it reads."""
    inside = set(part)
    return [node for node in part if any(user not in inside for user in node.users)]


def in_float64(part: Nodes, values: Values) -> dict[torch.fx.Node, Any]:
    """Return the part's values, computed in float64 on the same operands."""
    exact: dict[torch.fx.Node, Any] = {node: _widened(values[node]) for node in operands_of(part)}
    for node in part:
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda inner: exact[inner])
        args, kwargs = pytree.tree_map_only(torch.dtype, _wide_dtype, (args, kwargs))
        exact[node] = node.target(*args, **kwargs)  # type: ignore[operator]
    return exact


def _widened(value: Any) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda t: t.double() if t.is_floating_point() else t, value)


def _wide_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype.is_floating_point else dtype


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _flat(tensor: torch.Tensor) -> Any:
    return tensor.detach().contiguous().reshape(-1).numpy()


def costs_of(part: Sequence[torch.fx.Node]) -> tuple[float, int]:
    """Return FLOPs and bytes of the part's ops, one after the other, from the shapes of the capture."""
    work, moved = 0.0, 0
    for node in part:
        name = op_name(node)
        if not name or is_view(name):
            continue
        inputs = [t for inner in node.all_input_nodes for t in _described(inner)]
        outputs = _described(node)
        work += flops(name, [t.shape for t in inputs], [t.shape for t in outputs])
        moved += bytes_moved(name, inputs, outputs, ())
    return work, moved


def _described(node: torch.fx.Node) -> list[Tensor]:
    """Return a node's tensors as a captured graph describes them; every tensor has a storage of its own."""
    if node.target is operator.getitem:
        return [_tensor(node.meta["val"], id(node), 0)] if isinstance(node.meta.get("val"), torch.Tensor) else []
    return [_tensor(value, id(node), k) for k, value in enumerate(_tensors(node.meta.get("val")))]


def _tensor(value: torch.Tensor, storage: int, number: int) -> Tensor:
    identity = storage * 64 + number
    nbytes = value.numel() * value.element_size()
    shape, strides = tuple(value.shape), tuple(value.stride())
    return Tensor(identity, identity, 0, shape, strides, str(value.dtype), "cpu", nbytes, -1)
