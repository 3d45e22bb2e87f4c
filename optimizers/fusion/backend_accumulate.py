"""Sums that a backward graph takes term by term, taken at once: gradients of shared weights, of slices, of biases.

dg_0.T @ h_0 + dg_1.T @ h_1 + ...     -> cat(dg).T @ cat(h)
sum(dg_0, 0) + sum(dg_1, 0) + ...     -> sum(cat(dg), 0)
select_backward(g_0, 0) + ...         -> stack(g)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from optimizers.fusion.backend_joins import share_joins

aten = torch.ops.aten
_FEWEST = 4
_VIEWS = (
    aten.permute.default, aten.view.default, aten.t.default, aten.transpose.int, aten.unsqueeze.default,
    aten.squeeze.dims, aten.squeeze.dim,
)  # fmt: skip

Node = Any
"""A torch.fx.Node; its arguments have a type of a hundred alternatives, which no check here would narrow."""


def gather_sums(module: torch.fx.GraphModule) -> None:
    """Gather the long sums of a graph; its values change by rounding only."""
    graph = module.graph
    before = set(graph.nodes)
    for root in [node for node in graph.nodes if _is_sum(node)]:
        if any(_is_inner(user, root) for user in root.users):
            continue
        leaves = _leaves(root)
        if len(leaves) >= _FEWEST:
            _rewrite(graph, root, leaves)
    share_joins(graph, [node for node in graph.nodes if node not in before])
    graph.eliminate_dead_code()
    graph.lint()
    module.recompile()


def _is_sum(node: Node) -> bool:
    if (
        node.target is not aten.add.Tensor
        or node.kwargs
        or not all(isinstance(arg, torch.fx.Node) for arg in node.args)
    ):
        return False
    value = node.meta["val"]
    same = all(arg.meta["val"].shape == value.shape and arg.meta["val"].dtype == value.dtype for arg in node.args)
    return same and value.dtype.is_floating_point


def _is_inner(user: Node, node: Node) -> bool:
    """Return whether `node` is a term of the sum `user` and of nothing else."""
    return _is_sum(user) and len(node.users) == 1 and user.args[0] is not user.args[1]


def _leaves(root: Node) -> list[Node]:
    leaves: list[Node] = []
    waiting = list(root.args)
    while waiting:
        node = waiting.pop()
        if _is_sum(node) and len(node.users) == 1 and node.args[0] is not node.args[1]:
            waiting.extend(node.args)
        else:
            leaves.append(node)
    return leaves


def _rewrite(graph: torch.fx.Graph, root: Node, leaves: Sequence[Node]) -> None:
    groups: dict[Any, list[tuple[Node, list[Node]]]] = {}
    rest: list[Node] = []
    for leaf in leaves:
        base, views = _peel(leaf)
        key = _kind(base)
        if key is None:
            rest.append(leaf)
        else:
            shape = tuple((view.target, str(view.args[1:])) for view in views)
            groups.setdefault((key, shape), []).append((base, views))
    terms: list[Node] = []
    with graph.inserting_before(root):
        for (key, _), members in groups.items():
            made = _gather(graph, key, [base for base, _ in members]) if len(members) >= _FEWEST else None
            if made is None:
                rest += [views[0] if views else base for base, views in members]
                continue
            for view in reversed(members[0][1]):
                made = _call(graph, view.target, (made, *view.args[1:]))
            terms.append(made)
        if not terms:
            return
        terms += rest
        total = terms[0]
        for term in terms[1:]:
            total = _call(graph, aten.add.Tensor, (total, term))
    root.replace_all_uses_with(total)


def _peel(leaf: Node) -> tuple[Node, list[Node]]:
    """Return what lies below the views that only this leaf uses, and those views, the outermost first."""
    views: list[Node] = []
    node = leaf
    while node.target in _VIEWS and len(node.users) == 1 and isinstance(node.args[0], torch.fx.Node):
        views.append(node)
        node = node.args[0]
    return node, views


def _kind(node: Node) -> Any:
    """Return what terms must have in common to be gathered; None for a term that stays as it is."""
    if len(node.users) != 1 or node.kwargs:
        return None
    if node.target is aten.mm.default:
        left, right = (arg.meta["val"] for arg in node.args)
        depth, (rows, columns) = right.shape[0], node.meta["val"].shape
        # Copying both factors must cost less than adding the products.
        if (rows + columns) * depth > rows * columns:
            return None
        return "mm", _is_transposed(node.args[0]), _stack_of(node.args[1]), left.shape, right.shape
    if node.target is aten.sum.dim_IntList and list(node.args[1]) == [0]:
        return "sum", node.args[0].meta["val"].shape[1:], bool(node.args[2:] and node.args[2])
    if node.target is aten.select_backward.default:
        return "select", tuple(node.args[1]), node.args[2]
    return None


def _is_transposed(node: Any) -> bool:
    return node.target is aten.permute.default and list(node.args[1]) == [1, 0]


def _stack_of(node: Node) -> Any:
    """Return the tensor whose entries along its first axis `node` is one of."""
    return node.args[0] if node.target is aten.select.int and node.args[1] == 0 else None


def _gather(graph: torch.fx.Graph, key: Any, bases: list[Node]) -> Node | None:
    if key[0] == "mm":
        return _products(graph, key[1], bases)
    if key[0] == "sum":
        rows = _call(graph, aten.cat.default, ([base.args[0] for base in bases], 0))
        return _call(graph, aten.sum.dim_IntList, (rows, [0], key[2]))
    return _placed(graph, bases, list(key[1]), int(key[2]))


def _products(graph: torch.fx.Graph, transposed: bool, bases: list[Node]) -> Node:
    if _stack_of(bases[0].args[1]) is not None:
        bases = sorted(bases, key=lambda base: base.args[1].args[2])
    lefts = [base.args[0].args[0] if transposed else base.args[0] for base in bases]
    left = _call(graph, aten.cat.default, (lefts, 0 if transposed else 1))
    if transposed:
        left = _call(graph, aten.permute.default, (left, [1, 0]))
    rights = [base.args[1] for base in bases]
    right = _window(graph, rights)
    if right is None:
        right = _call(graph, aten.cat.default, (rights, 0))
    return _call(graph, aten.mm.default, (left, right))


def _window(graph: torch.fx.Graph, parts: Sequence[Node]) -> Node | None:
    """Return the parts as rows of the stack that they are entries of, where they lie evenly in it."""
    stack = _stack_of(parts[0])
    if stack is None:
        return None
    positions = [part.args[2] for part in parts]
    steps = {after - before for before, after in pairwise(positions)}
    rows, columns = parts[0].meta["val"].shape
    if len(steps) != 1 or (step := steps.pop()) < 1 or not (step == 1 or rows == 1):
        return None
    if not stack.meta["val"].is_contiguous():
        return None
    part = _call(graph, aten.slice.Tensor, (stack, 0, positions[0], positions[-1] + 1, step))
    if rows == 1:
        return _call(graph, aten.squeeze.dims, (part, [1]))
    return _call(graph, aten.view.default, (part, [len(parts) * rows, columns]))


def _placed(graph: torch.fx.Graph, bases: list[Node], shape: list[int], axis: int) -> Node | None:
    """Return the gradients of entries along an axis as one stack, zeros where there is none."""
    axis %= len(shape)
    entries: dict[int, Node] = {}
    for base in bases:
        position = base.args[3] % shape[axis]
        if position in entries:
            return None
        entries[position] = base.args[0]
    if 2 * len(entries) < shape[axis]:
        return None
    value = bases[0].args[0].meta["val"]
    zeros = None
    if len(entries) < shape[axis]:
        zeros = _call(graph, aten.full.default, (list(value.shape), 0.0), {"dtype": value.dtype})
    return _call(graph, aten.stack.default, ([entries.get(k, zeros) for k in range(shape[axis])], axis))


def _call(graph: torch.fx.Graph, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Node:
    node = graph.call_function(target, args, kwargs or {})
    fake = torch.fx.node.map_arg((args, kwargs or {}), lambda inner: inner.meta["val"])
    mode = next(n.meta["val"].fake_mode for n in graph.nodes if isinstance(n.meta.get("val"), torch.Tensor))
    with mode:
        node.meta["val"] = target(*fake[0], **fake[1])
    return node
