"""From a captured ATen graph to definitions: views are folded, pointwise ops and reductions become IR ops."""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Any

import torch

# Imported for their handlers, which register themselves.
from optimizers.fusion import (  # noqa: F401
    convolution,
    elementwise,
    embedding,
    gradients,
    indexing,
    pooling,
    quantized,
    reductions,
)
from optimizers.fusion.attention_match import find_attentions
from optimizers.fusion.capture import Captured, UnfusableError
from optimizers.fusion.convolution_layout import arranged
from optimizers.fusion.graph import DTYPES, Call, Lowered, users_of
from optimizers.fusion.lowering import ANY_DTYPE, HANDLERS, Lowering, View, handles

# Ops that take a bias into their region: all with a handler but those that only copy.
_COPIES = frozenset(("cat", "stack", "clone", "_to_copy", "contiguous", "lift_fresh_copy", "addmm"))


def lower(captured: Captured, excluded: Collection[str] = ()) -> Lowered:
    """Return the program of a captured graph; nodes named in `excluded` stay with ATen.

    Raises UnfusableError for an output that is neither tensor nor plain value.
    """
    captured = arranged(captured, excluded)
    lowering = Lowering(excluded)
    lowering.device = captured.device.type
    environment: dict[torch.fx.Node, Any] = {}
    outputs: tuple[Any, ...] = ()
    number = 0
    attentions = find_attentions(captured.graph.graph, excluded)
    for node in captured.graph.graph.nodes:
        lowering.node = node.name
        if node.op == "placeholder":
            environment[node] = _placeholder(lowering, node, number, len(captured.weights))
            number += 1
        elif node.op == "get_attr":
            environment[node] = _constant(lowering, getattr(captured.graph, str(node.target)))
        elif node.op == "output":
            outputs = tuple(_output(item, environment) for item in node.args[0])
        else:
            value = attentions[node](lowering, environment) if node in attentions else NotImplemented
            environment[node] = _lower_node(lowering, node, environment) if value is NotImplemented else value
    definitions = tuple(lowering.definitions)
    constants, users = tuple(lowering.constants), users_of(definitions)
    return Lowered(definitions, tuple(lowering.calls), outputs, constants, users, frozenset(excluded))


def _placeholder(lowering: Lowering, node: torch.fx.Node, number: int, weights: int) -> View:
    value = node.meta["val"]
    kind, number = ("weight", number) if number < weights else ("input", number - weights)
    return lowering.define(kind, value.shape, value.stride(), value.dtype, number=number)


def _constant(lowering: Lowering, tensor: torch.Tensor) -> View:
    """Return a tensor that forward makes of Python numbers: tracing with fake tensors lets no other one through."""
    if tensor.numel() == 1 and tensor.dtype in DTYPES:
        return lowering.constant(tensor.item(), tensor.shape, tensor.dtype)
    lowering.constants.append(tensor)
    number = len(lowering.constants) - 1
    return lowering.define("constant", tensor.shape, tensor.stride(), tensor.dtype, number=number)


def _output(item: Any, environment: dict[torch.fx.Node, Any]) -> Any:
    if isinstance(item, torch.fx.Node):
        return environment[item].reference()
    if item is None or isinstance(item, bool | int | float | str):
        return item
    raise UnfusableError(f"the model returns a {type(item).__name__}; return tensors, or tuples and dicts of them")


def _lower_node(lowering: Lowering, node: torch.fx.Node, environment: dict[torch.fx.Node, Any]) -> Any:
    def fill(value: Any) -> Any:
        return torch.fx.node.map_arg(value, lambda inner: environment[inner])

    args = [fill(argument) for argument in node.args]
    kwargs = {name: fill(value) for name, value in node.kwargs.items()}
    if node.target is operator.getitem:
        return args[0][args[1]]
    if _is_view(node.target):
        return _replay(node, args, kwargs)
    name = _name(node.target)
    if node.name not in lowering.excluded and (name in ANY_DTYPE or _supported(node)):
        handler = HANDLERS.get(name)
        result = handler(lowering, node, args, kwargs) if handler is not None else NotImplemented
        if result is not NotImplemented:
            return result
    return _call(lowering, node, args, kwargs)


def _name(target: Any) -> str:
    return str(target).split(".")[1] if str(target).startswith(("aten.", "hotbench.")) else str(target)


def _is_view(target: Any) -> bool:
    if not isinstance(target, torch._ops.OpOverload):
        return False
    aliases = [argument.alias_info for argument in target._schema.arguments]
    return any(info is not None and not info.is_write for info in aliases)


def _replay(node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Return the view, found by running the op on meta tensors: no code per op."""
    source = args[0].source
    plain = [item.meta if isinstance(item, View) else item for item in args]
    result = node.target(*plain, **kwargs)  # type: ignore[operator]
    if isinstance(result, tuple | list):
        return [View(source, item) for item in result]
    return View(source, result)


def _supported(node: torch.fx.Node) -> bool:
    """Return whether every tensor that the node reads and writes has an IR dtype and at least one element."""
    value = node.meta.get("val")
    # Second results, such as a batch norm's statistics in eval mode, may be empty.
    written = list(value[:1]) if isinstance(value, tuple | list) else [value]
    read = [inner.meta.get("val") for inner in node.all_input_nodes]
    tensors = [item for item in (*written, *read) if isinstance(item, torch.Tensor)]
    return bool(tensors) and all(t.dtype in DTYPES and t.numel() > 0 and t.layout == torch.strided for t in tensors)


def _call(lowering: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any], target: Any = None) -> Any:
    """Keep an op with the library; `target` in the place of the node's own, with the same results."""
    value = node.meta["val"]
    many = isinstance(value, tuple | list)
    values = list(value) if many else [value]
    number = len(lowering.calls)
    views = [
        lowering.define("call", item.shape, item.stride(), item.dtype, number=number)
        if isinstance(item, torch.Tensor)
        else None
        for item in values
    ]
    target = target or node.target
    lowering.calls.append(
        Call(
            target,
            tuple(_frozen(item) for item in args),
            tuple((name, _frozen(item)) for name, item in kwargs.items()),
            tuple(None if view is None else view.source for view in views),
            many,
            isinstance(target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in target.tags,
        )
    )
    return views if many else views[0]


@handles("addmm")
def _addmm(lowering: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Leave the product to the library and the bias to the region that reads it, where one does."""
    if kwargs or not _only_fused_readers(node, lowering.excluded):
        return NotImplemented
    product = _call(lowering, node, args[1:], {}, torch.ops.aten.mm.default)
    return lowering.apply("add", product, args[0], like=node.meta["val"])


def _only_fused_readers(node: torch.fx.Node, excluded: Collection[str]) -> bool:
    for user in node.users:
        if user.target is operator.getitem or _is_view(user.target):
            if not _only_fused_readers(user, excluded):
                return False
        elif user.op != "call_function" or user.name in excluded or _name(user.target) not in HANDLERS.keys() - _COPIES:
            return False
    return bool(node.users)


def _frozen(item: Any) -> Any:
    if isinstance(item, View):
        return item.reference()
    if isinstance(item, list | tuple):
        return [_frozen(inner) for inner in item]
    return item
