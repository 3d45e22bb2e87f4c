"""Cuts a joint graph into forward and backward, and saves equal tensors between them as one."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch.utils.checkpoint import CheckpointPolicy

from optimizers.fusion.backend_accumulate import gather_sums
from optimizers.fusion.graph import DTYPES, dense_strides

_FEWEST = 4
"""From so many equal tensors on, one stack costs less than autograd's bookkeeping for each."""

aten = torch.ops.aten


def partition(
    joint: torch.fx.GraphModule,
    inputs: Any,
    *,
    num_fwd_outputs: int,
    static_lifetime_input_indices: list[int] | None = None,
) -> tuple[torch.fx.GraphModule, torch.fx.GraphModule]:
    """Return the forward and the backward graph; what is cheap to compute again is not saved."""
    _drop_aliases(joint.graph)
    mark_exact(joint.graph)
    forward, backward = min_cut_rematerialization_partition(
        joint,
        inputs,
        num_fwd_outputs=num_fwd_outputs,
        static_lifetime_input_indices=static_lifetime_input_indices,
    )
    save_bases(forward, backward, num_fwd_outputs)
    pack_saved(forward, backward, num_fwd_outputs)
    gather_sums(backward)
    _check(forward, backward, num_fwd_outputs)
    return forward, backward


def _check(forward: torch.fx.GraphModule, backward: torch.fx.GraphModule, outputs: int) -> None:
    """Raise RuntimeError where what forward saves is not what backward reads: a fault of this module."""
    saved = forward.graph.find_nodes(op="output")[0].args[0][outputs:]
    read = backward.graph.find_nodes(op="placeholder")
    for ours, theirs in zip(saved, read[: len(saved)], strict=True):
        a, b = ours.meta.get("val"), theirs.meta.get("val")
        same = isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and a.dtype == b.dtype
        if not same or (a.shape, a.stride()) != (b.shape, b.stride()):
            raise RuntimeError(f"forward saves {ours.name}, backward reads {theirs.name} in its place")


def mark_exact(graph: torch.fx.Graph) -> None:
    """Mark what is compared for equality: computed twice it may differ in its last bit, so it is computed once.

    The gradient of `amax` divides by the number of elements that equal the maximum; with none it would be NaN.
    """
    for node in graph.nodes:
        if node.target in (aten.eq.Tensor, aten.ne.Tensor):
            for operand in node.all_input_nodes:
                base, _ = _base(operand)
                if base.op == "call_function" and base.meta["val"].is_floating_point():
                    base.meta["recompute"] = CheckpointPolicy.MUST_SAVE
                    base.meta[EXACT] = True


EXACT = "hotbench_exact"
"""In the meta of nodes that stay with ATen, whose bits do not depend on what is computed beside them."""


def _drop_aliases(graph: torch.fx.Graph) -> None:
    """Let readers inside the graph use what an alias stands for; outputs keep their own."""
    for node in list(graph.nodes):
        if node.target in (aten.alias.default, aten.detach.default):
            node.replace_all_uses_with(node.args[0], lambda user: user.op != "output")
            if not node.users:
                graph.erase_node(node)


def save_bases(forward: torch.fx.GraphModule, backward: torch.fx.GraphModule, outputs: int) -> None:
    """Save the tensor that a saved view looks at, whose memory it holds anyway, and take the view in backward.

    outputs: how many outputs of the forward graph are not saved tensors.
    """
    result = forward.graph.find_nodes(op="output")[0]
    returned = list(result.args[0])
    placeholders = _read(returned[outputs:], backward)
    computed = {node.name for node in backward.graph.nodes if node.op != "placeholder"}
    saved: list[Any] = []
    for node in returned[outputs:]:
        base, views = _base(node)
        # A base that backward computes again is not worth saving for its view.
        if not views or base.name in computed:
            saved.append(node)
            continue
        if base not in placeholders:
            with backward.graph.inserting_before(next(iter(backward.graph.nodes))):
                placeholders[base] = backward.graph.placeholder(base.name)
            placeholders[base].meta = dict(base.meta)
        if base not in saved and base not in returned[outputs:]:
            saved.append(base)
        _replay(backward.graph, placeholders.pop(node), placeholders[base], views)
    result.args = ((*returned[:outputs], *saved),)
    _order_placeholders(backward.graph, [placeholders[node] for node in saved])
    for module in (forward, backward):
        module.graph.lint()
        module.recompile()


def _read(saved: Sequence[Any], backward: torch.fx.GraphModule) -> dict[torch.fx.Node, torch.fx.Node]:
    """Return backward's placeholder for each saved tensor: by position, since a random state has another name there."""
    return dict(zip(saved, backward.graph.find_nodes(op="placeholder"), strict=False))


def _base(node: Any) -> tuple[Any, list[torch.fx.Node]]:
    """Return what a saved tensor is a view of, and the views in between, the innermost first."""
    views: list[torch.fx.Node] = []
    base = node
    while isinstance(base, torch.fx.Node) and (steps := _view_steps(base)):
        views = [*steps, *views]
        base = steps[0].args[0]
    if views and not isinstance(base.meta.get("val"), torch.Tensor):
        return node, []
    return base, views


def _view_steps(node: torch.fx.Node) -> list[torch.fx.Node]:
    """Return the nodes that make a view of a tensor: the view itself, or a list of views and the one picked of it."""
    if node.target is operator.getitem:
        cut = node.args[0]
        tensors = isinstance(node.meta.get("val"), torch.Tensor) and not node.meta.get(_NO_CHECK)
        return [cut, node] if tensors and isinstance(cut, torch.fx.Node) and _only_looks(cut) else []
    return [node] if isinstance(node.meta.get("val"), torch.Tensor) and _only_looks(node) else []


def _only_looks(node: torch.fx.Node) -> bool:
    """Return whether what the node makes are views of its one operand."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return False
    aliases = [argument.alias_info for argument in target._schema.arguments]
    one = len(node.all_input_nodes) == 1 and isinstance(node.args[0], torch.fx.Node)
    return one and aliases[0] is not None and not aliases[0].is_write and not node.meta.get(_NO_CHECK)


_NO_CHECK = "saved_tensor_with_no_vc_check"


def _replay(graph: torch.fx.Graph, old: torch.fx.Node, base: torch.fx.Node, views: Sequence[Any]) -> None:
    node = base
    after = graph.find_nodes(op="placeholder")[-1].next
    for view in views:
        with graph.inserting_before(after):
            copy = graph.call_function(view.target, (node, *view.args[1:]), dict(view.kwargs))
        copy.meta["val"] = view.meta["val"]
        node = copy
    old.replace_all_uses_with(node)
    graph.erase_node(old)


def _order_placeholders(graph: torch.fx.Graph, order: Sequence[torch.fx.Node]) -> None:
    """Put the saved tensors first, in this order; the tangents that follow stay where they are."""
    for node in reversed(order):
        first = next(iter(graph.nodes))
        if first is not node:
            first.prepend(node)


def pack_saved(forward: torch.fx.GraphModule, backward: torch.fx.GraphModule, outputs: int) -> None:
    """Make saved tensors of one shape and dtype slices of one stack.

    outputs: how many outputs of the forward graph are not saved tensors. The slices are written in place: a stack
    costs no copy where its parts are computed by a kernel.
    """
    result = forward.graph.find_nodes(op="output")[0]
    returned = list(result.args[0])
    placeholders = _read(returned[outputs:], backward)
    groups = _alike(returned[outputs:], set(returned[:outputs]), placeholders)
    if not groups:
        return
    packed = {node for group in groups for node in group}
    stacks, wholes = [], []
    for number, group in enumerate(groups):
        value = _stacked_value(group)
        with forward.graph.inserting_before(result):
            stack = forward.graph.call_function(aten.stack.default, (list(group),))
        stack.meta["val"] = value
        stacks.append(stack)
        with backward.graph.inserting_before(next(iter(backward.graph.nodes))):
            whole = backward.graph.placeholder(f"saved_stack_{number}")
        whole.meta["val"] = value
        wholes.append(whole)
        _unpack(backward.graph, whole, [placeholders[node] for node in group])
    rest = [node for node in returned[outputs:] if node not in packed]
    result.args = ((*returned[:outputs], *stacks, *rest),)
    _order_placeholders(backward.graph, [*wholes, *(placeholders[node] for node in rest)])
    for module in (forward, backward):
        module.graph.lint()
        module.recompile()


def _alike(
    saved: Sequence[Any], returned: set[Any], placeholders: Mapping[torch.fx.Node, torch.fx.Node]
) -> list[list[torch.fx.Node]]:
    """Return the sets of saved tensors that one stack can hold: computed here, contiguous, returned to nobody else.

    Those of one set come from the same op and are read by the same ops, so that a set is one role at every step of a
    loop, and its entries one after the other are what a product over all steps reads.
    """
    groups: dict[tuple[Any, ...], list[torch.fx.Node]] = {}
    for node in saved:
        value = node.meta.get("val") if isinstance(node, torch.fx.Node) else None
        if not isinstance(value, torch.Tensor) or node in returned or not _computed(node):
            continue
        if node.meta.get(_NO_CHECK) or value.dtype not in DTYPES or 0 in value.shape:
            continue
        if tuple(value.stride()) == dense_strides(value.shape):
            readers = tuple(sorted({str(user.target) for user in placeholders[node].users}))
            groups.setdefault((node.target, readers, value.dtype, *value.shape), []).append(node)
    return [group for group in groups.values() if len(group) >= _FEWEST]


def _computed(node: torch.fx.Node) -> bool:
    """Return whether the node's memory is its own: no input, no view of anything."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False
    return all(argument.alias_info is None for argument in node.target._schema.arguments)


def _stacked_value(group: Sequence[torch.fx.Node]) -> torch.Tensor:
    value = group[0].meta["val"]
    with value.fake_mode:
        return torch.empty((len(group), *value.shape), dtype=value.dtype, device=value.device)


def _unpack(graph: torch.fx.Graph, whole: torch.fx.Node, parts: Sequence[torch.fx.Node]) -> None:
    after = graph.find_nodes(op="placeholder")[-1].next
    for position, part in enumerate(parts):
        with graph.inserting_before(after):
            view = graph.call_function(aten.select.int, (whole, 0, position))
        view.meta["val"] = part.meta["val"]
        part.replace_all_uses_with(view)
        graph.erase_node(part)
