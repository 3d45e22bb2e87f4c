"""What fusion does not take, said in one line: models, inputs and graphs whose program would lose something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

from analyzer.errors import HotbenchError
from optimizers.fusion.state import Bytes, Held

MOST_ITEMS = 4096
"""Items of the lists, deques and sets of a model, which each call compares at 25 ns or so."""
_CONTAINERS_OF_A_MODULE = 16


class UnfusableError(HotbenchError):
    """Why a model, or these inputs, cannot be fused: one line that becomes a Refusal."""


def refuse_scripts(model: torch.nn.Module) -> None:
    """Raise UnfusableError for a model with scripts of torch.jit."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise UnfusableError(
                f"module {name or 'itself'!r} is a script of torch.jit; pass the model it was made from"
            )


def refuse_hooks(model: torch.nn.Module) -> None:
    """Raise UnfusableError for a model with forward hooks."""
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            raise UnfusableError(
                f"module {name or 'itself'!r} has forward hooks, which fusion cannot repeat; remove them"
            )


def check_inputs(leaves: list[Any]) -> None:
    """Raise UnfusableError unless the flat inputs are dense tensors and plain numbers."""
    for position, leaf in enumerate(leaves):
        if isinstance(leaf, torch.Tensor):
            if type(leaf) not in (torch.Tensor, torch.nn.Parameter) or leaf.layout != torch.strided:
                raise UnfusableError(
                    f"input {position} is a {type(leaf).__name__} of layout {leaf.layout}; pass dense tensors"
                )
            if leaf.is_neg() or leaf.is_conj():
                raise UnfusableError(
                    f"input {position} is a lazy negation or conjugate; call resolve_neg or resolve_conj"
                )
        elif not (leaf is None or isinstance(leaf, int | float | bool | str)):
            raise UnfusableError(f"input {position} is a {type(leaf).__name__}; pass tensors and plain numbers only")


def check_device(weights: Mapping[str, torch.Tensor], leaves: list[Any]) -> None:
    """Raise UnfusableError unless all tensors are on one device that fusion is for."""
    named = [*weights.items(), *((f"input {k}", leaf) for k, leaf in enumerate(leaves))]
    tensors = [(name, tensor) for name, tensor in named if isinstance(tensor, torch.Tensor)]
    for name, tensor in tensors:
        first_name, first = tensors[0]
        if tensor.device != first.device:
            raise UnfusableError(
                f"{first_name} is on {first.device}, {name} on {tensor.device}; move both to one device"
            )
        if tensor.device.type not in ("cpu", "cuda"):
            raise UnfusableError(f"{name} is on {tensor.device}; fusion is for the CPU and for CUDA devices")


def refuse_large_state(state: tuple[Held, ...], modules: int) -> None:
    """Refuse more than a call can check: large arrays, long lists, deques and sets, very many containers."""
    for held in state:
        if isinstance(held.container, Bytes) and len(held.keys[0]) > MOST_ITEMS:
            raise UnfusableError(
                f"{held.label} is a NumPy array of {len(held.keys[0])} bytes, too large to check at each call; "
                "register it as a buffer, or make it read-only"
            )
    sequences = [held for held in state if not held.is_dict]
    if sum(len(held.keys) for held in sequences) > MOST_ITEMS:
        largest = max(sequences, key=lambda held: len(held.keys))
        raise UnfusableError(
            f"{largest.label} holds {len(largest.keys)} items, and lists and sets of more than {MOST_ITEMS} items "
            "cannot be checked at each call; keep them out of the model, or in a tuple or dict"
        )
    if len(state) > MOST_ITEMS + _CONTAINERS_OF_A_MODULE * modules:
        last = state[-1].label
        raise UnfusableError(
            f"the model's attributes reach {len(state)} containers, among them {last}, too many to check at each call; "
            "keep them out of the model"
        )


def refuse_effects(graph: torch.fx.GraphModule, weights: tuple[str, ...]) -> None:
    """Refuse what would be lost or burnt in: writes into inputs or buffers, values read into Python."""
    placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
    names = {
        node: weights[k] if k < len(weights) else f"input {k - len(weights)}" for k, node in enumerate(placeholders)
    }
    for node in graph.graph.nodes:
        if node.op != "call_function":
            continue
        if mutates(node):
            what = names.get(node.args[0], "a tensor")
            raise UnfusableError(f"forward writes {what} in place with {node.target}; fusion leaves it alone")
        if node.target is torch.ops.aten.as_strided.default and (owner := _owner(node.args[0])) in names:
            _refuse_strides(node, owner, names[owner])
        if any(_is_symbolic(value) for value in pytree.tree_leaves(node.meta.get("val"))):
            raise UnfusableError(f"a value or shape depends on tensor values ({node.target}); fusion leaves it alone")


def _refuse_strides(node: torch.fx.Node, owner: torch.fx.Node, name: str) -> None:
    """Refuse a window onto the caller's memory that is not one onto the caller's tensor."""
    if len(node.args) > 3 and node.args[3] is not None:
        raise UnfusableError(
            f"forward reads {name} by as_strided from an offset into its storage, which is right for this view of it "
            "alone; leave the offset out, and slice the tensor first"
        )
    first, last = _reach(node.meta["val"])
    begin, end = _reach(owner.meta["val"])
    if first < begin or last > end:
        raise UnfusableError(f"forward reads beyond {name} by as_strided; pass a tensor that has all that is read")


def _reach(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the first and the last element of its storage that a tensor has."""
    begin = int(tensor.storage_offset())
    return begin, begin + sum((extent - 1) * step for extent, step in zip(tensor.shape, tensor.stride(), strict=True))


def _owner(node: Any) -> Any:
    """Return the node whose memory a node's result is a view of: itself where it has its own."""
    while node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
        returns = node.target._schema.returns
        if not returns or returns[0].alias_info is None or not isinstance(node.args[0], torch.fx.Node):
            return node
        node = node.args[0]
    return node


def _is_symbolic(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return any(not isinstance(extent, int) for extent in (*value.shape, *value.stride(), value.storage_offset()))
    return isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool)


def mutates(node: torch.fx.Node) -> bool:
    """Return whether a node's op writes into an argument."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
