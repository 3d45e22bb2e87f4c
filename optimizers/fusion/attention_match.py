"""Where a captured graph computes attention: ATen's own op, or products, scale, mask and softmax spelled out."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.fx import Node

from optimizers.fusion.attention import Attention, call_attention, refusal
from optimizers.fusion.lowering import Lowering, View

_FLASH = "_scaled_dot_product_flash_attention_for_cpu"
FEWEST_PRODUCTS = 1 << 16
"""Fewer, in two axes, are a step of a decoder rather: a loop over all steps is worth more, and has no attention."""
_RESHAPES = ("view", "_unsafe_view", "reshape")
_Turn = Callable[[torch.Tensor], torch.Tensor]
Lowered = Callable[[Lowering, Mapping[Node, Any]], Any]
"""Makes the call and returns the value of the node; NotImplemented where the operands get no kernel."""


def find_attentions(graph: torch.fx.Graph, excluded: Collection[str] = ()) -> dict[Node, Lowered]:
    """Return what lowers a node as attention, for each node that gives the result of one."""
    found: dict[Node, Lowered] = {}
    for node in graph.nodes:
        if _name(node) == _FLASH:
            match = _flash(node)
        elif _name(node) in ("bmm", "mm"):
            match = _spelled_out(node)
        else:
            continue
        if match is not None and not _stays(match.attention, excluded):
            found[match.root] = match.lower
    return found


def _stays(attention: Attention, excluded: Collection[str]) -> bool:
    return attention.refused in excluded or any(name in excluded for name in attention.nodes)


def _name(node: Any) -> str:
    target = str(node.target) if isinstance(node, Node) else ""
    return target.split(".")[1] if target.startswith("aten.") else ""


def _value(node: Node) -> torch.Tensor:
    value: torch.Tensor = node.meta["val"]
    return value


def _is_float32(*nodes: Any) -> bool:
    values = [node.meta.get("val") if isinstance(node, Node) else None for node in nodes]
    return all(isinstance(value, torch.Tensor) and value.dtype == torch.float32 for value in values)


@dataclass(frozen=True, slots=True)
class _Match:
    """An attention and what its operands are.

    root:     the node whose value the call gives; turn: what makes that value of the call's result.
    operands: the nodes of q, k, v and mask; views: what makes q, k, v [leading …, rows, columns] of theirs.
    strides:  of the result.
    """

    root: Node
    attention: Attention
    operands: tuple[Node, ...]
    views: tuple[_Turn, ...]
    strides: tuple[int, ...]
    turn: Callable[[View], Any]

    def lower(self, lowering: Lowering, environment: Mapping[Node, Any]) -> Any:
        """Make the call, and return the root's value; NotImplemented where the operands get no kernel."""
        given = [environment[node] for node in self.operands]
        operands = [View(item.source, view(item.meta)) for item, view in zip(given, self.views, strict=True)]
        if refusal(self.attention, operands, self.strides):
            return NotImplemented
        return self.turn(call_attention(lowering, self.attention, operands, self.strides))


# ATen's op.


def _flash(node: Node) -> _Match | None:
    query, key, value, *rest = node.args
    dropout = rest[0] if rest else node.kwargs.get("dropout_p", 0.0)
    causal = bool(rest[1] if len(rest) > 1 else node.kwargs.get("is_causal", False))
    mask, scale = node.kwargs.get("attn_mask"), node.kwargs.get("scale")
    read = {user.args[1] for user in node.users if user.target is operator.getitem}
    if dropout or read != {0} or len(node.users) != 1 or not _is_float32(query, key, value):
        return None
    assert isinstance(query, Node) and isinstance(key, Node) and isinstance(value, Node)
    shapes = [tuple(_value(item).shape) for item in (query, key, value)]
    if any(len(shape) != 4 or shape[:2] != shapes[0][:2] for shape in shapes):
        return None
    kind = "" if mask is None else _mask_kind(mask)
    if kind is None:
        return None
    factor = 1.0 / math.sqrt(shapes[0][-1]) if scale is None else float(scale)  # type: ignore[arg-type]
    attention = Attention(factor, kind, -math.inf, causal, True, (node.name,))
    scores = (*shapes[0][:-1], shapes[1][-2])
    operands = [query, key, value]
    views: list[_Turn] = [_same, _same, _same]
    if isinstance(mask, Node):
        operands.append(mask)
        views.append(_expanded(scores))
    strides = tuple(node.meta["val"][0].stride())
    return _Match(node, attention, tuple(operands), tuple(views), strides, lambda result: [result, None])


def _mask_kind(mask: Any) -> str | None:
    value = mask.meta.get("val") if isinstance(mask, Node) else None
    return {torch.float32: "add", torch.bool: "keep"}.get(value.dtype) if isinstance(value, torch.Tensor) else None


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _expanded(shape: Sequence[int]) -> _Turn:
    return lambda tensor: tensor.expand(tuple(shape))


def _transposed(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.transpose(-1, -2)


# Spelled out: bmm, scale, mask, softmax, bmm.


@dataclass(slots=True)
class _Scores:
    """What lies between the first product and the softmax, found from the softmax upwards.

    leading: extents of the axes before the last two, where the mask is applied.
    """

    scale: float = 1.0
    mask: Node | None = None
    kind: str = ""
    fill: float = -math.inf
    leading: tuple[int, ...] = ()
    nodes: list[Node] = field(default_factory=list)


def _spelled_out(product: Node) -> _Match | None:
    weights, value = product.args[:2]
    if not _is_float32(product, weights, value) or not isinstance(weights, Node) or not isinstance(value, Node):
        return None
    path: list[Node] = []
    softmax = _through_copies(weights, path)
    if softmax is None or _name(softmax) not in ("_softmax", "_safe_softmax") or not _alone(softmax):
        return None
    if softmax.args[1] not in (-1, _value(softmax).dim() - 1) or not _is_float32(softmax, softmax.args[0]):
        return None
    scores = _Scores()
    first = _first_product(softmax.args[0], scores)
    if first is None or not _is_float32(*first.args[:2]):
        return None
    query, key = first.args[:2]
    assert isinstance(query, Node) and isinstance(key, Node)
    if _name(product) == "mm" and _value(softmax).numel() * _value(query).shape[-1] < FEWEST_PRODUCTS:
        return None
    between = [*scores.nodes, softmax, *path]
    return _assembled(product, first, (query, key, value), scores, between, _name(softmax) == "_safe_softmax")


def _alone(node: Node) -> bool:
    return len(node.users) == 1


def _through_copies(node: Node, path: list[Node]) -> Node | None:
    """Return what a chain of reshapes and copies, each with one reader, is made of; None where others read it too."""
    while _name(node) in (*_RESHAPES, "clone", "expand"):
        inner = node.args[0]
        if not _alone(node) or not isinstance(inner, Node):
            return None
        if _name(node) == "expand" and _value(node).shape != _value(inner).shape:
            return None
        if _value(node).shape[-2:] != _value(inner).shape[-2:]:
            return None
        path.append(node)
        node = inner
    return node


def _first_product(node: Any, scores: _Scores) -> Node | None:
    """Return the product that the scores begin with, and note in `scores` what is done to them on the way."""
    scaled = False
    while isinstance(node, Node) and _alone(node):
        name = _name(node)
        scores.nodes.append(node)
        if name in ("bmm", "mm"):
            return node
        if name in (*_RESHAPES, "clone", "expand"):
            inner = scores.nodes.pop()
            inner_path: list[Node] = []
            following = _through_copies(inner, inner_path)
            scores.nodes += inner_path
            node = following
        elif name in ("mul", "div") and _is_number(node.args[1]) and not node.kwargs:
            number = float(node.args[1])  # type: ignore[arg-type]
            if name == "div" and number == 0.0:
                return None
            scores.scale *= number if name == "mul" else 1.0 / number
            scaled, node = True, node.args[0]
        elif scores.mask is None and not scaled:
            scores.leading = tuple(_value(node).shape[:-2])
            node = _masked(node, scores)
        else:
            return None
    return None


def _is_number(item: Any) -> bool:
    return isinstance(item, int | float) and not isinstance(item, bool)


def _masked(node: Node, scores: _Scores) -> Node | None:
    """Return the scores below a mask, which is noted in `scores`; None if the node is no mask."""
    name, args = _name(node), node.args
    if name == "add" and not node.kwargs and len(args) == 2 and _is_float32(*args):
        whole = _value(node).shape
        for inner, mask in ((args[0], args[1]), (args[1], args[0])):
            assert isinstance(inner, Node) and isinstance(mask, Node)
            if _value(inner).shape == whole and _leads_to_product(inner):
                scores.mask, scores.kind = mask, "add"
                return inner
    if name == "masked_fill" and _is_number(args[2]) and isinstance(args[0], Node) and isinstance(args[1], Node):
        scores.mask, scores.kind, scores.fill = args[1], "drop", float(args[2])  # type: ignore[arg-type]
        return args[0]
    if name == "where" and len(args) == 3 and isinstance(args[0], Node):
        for inner, other, kind in ((args[1], args[2], "keep"), (args[2], args[1], "drop")):
            fill = _constant(other)
            if fill is not None and isinstance(inner, Node) and _leads_to_product(inner):
                scores.mask, scores.kind, scores.fill = args[0], kind, fill
                return inner
    return None


def _leads_to_product(node: Node) -> bool:
    names = (*_RESHAPES, "clone", "expand", "mul", "div")
    while _name(node) in names and isinstance(node.args[0], Node):
        node = node.args[0]
    return _name(node) in ("bmm", "mm")


def _constant(node: Any) -> float | None:
    if _is_number(node):
        return float(node)
    if _name(node) == "scalar_tensor" and _is_number(node.args[0]):
        return float(node.args[0])
    if _name(node) in ("full", "full_like") and _is_number(node.args[1]):
        return float(node.args[1])
    return None


def _assembled(
    product: Node,
    first: Node,
    factors: tuple[Node, Node, Node],
    scores: _Scores,
    between: list[Node],
    safe: bool,
) -> _Match | None:
    operands, copies = _operands(factors)
    views: list[_Turn] = [_same, _transposed, _same]
    query, key, value = (_value(operand) for operand in operands)
    leading = tuple(query.shape[:-2])
    shape = (*leading, query.shape[-2], key.shape[-1])
    if scores.mask is not None:
        mask = scores.mask.meta["val"]
        if mask.dtype != (torch.float32 if scores.kind == "add" else torch.bool) or not _fits(mask, shape):
            return None
        # Where the scores were reshaped on the way, an axis of the mask may be another one than the operands'.
        if scores.leading != leading and any(extent != 1 for extent in mask.shape[:-2]):
            return None
        operands.append(scores.mask)
        views.append(_expanded(shape))
    result = (*leading, query.shape[-2], value.shape[-1])
    root, turn, strides, after = _layout(product, result)
    kept = dict.fromkeys((*copies, *reversed(between), product, *after))
    ordered = [node for node in product.graph.nodes if node in kept]
    names = tuple(node.name for node in ordered)
    attention = Attention(scores.scale, scores.kind, scores.fill, False, safe, names)
    return _Match(root, attention, tuple(operands), tuple(views), strides, turn)


def _fits(mask: torch.Tensor, shape: Sequence[int]) -> bool:
    if mask.dim() > len(shape):
        return False
    tail = shape[len(shape) - mask.dim() :]
    return all(extent in (1, wanted) for extent, wanted in zip(mask.shape, tail, strict=True))


def _operands(factors: Sequence[Node]) -> tuple[list[Node], list[Node]]:
    """Return the factors before they were copied and flattened to three axes, and the copies that this saves."""
    found: list[Node] = []
    copies: list[Node] = []
    for factor in factors:
        node, path = factor, []
        if _name(node) in _RESHAPES:
            inner = node.args[0]
            assert isinstance(inner, Node)
            if _value(inner).shape[-2:] == _value(node).shape[-2:]:
                path.append(node)
                node = inner
        while _name(node) == "clone" and _alone(node) and isinstance(node.args[0], Node):
            path.append(node)
            node = node.args[0]
        found.append(node)
        copies += path
    if len({tuple(_value(node).shape[:-2]) for node in found}) == 1:
        return found, copies
    return list(factors), []


def _layout(
    product: Node, shape: tuple[int, ...]
) -> tuple[Node, Callable[[View], Any], tuple[int, ...], tuple[Node, ...]]:
    """Return the last node that is only the result in another order, and the strides that make it so in memory.

    The result of bmm goes through view, permute and a copy to [batch, rows, heads, columns]: stored there at once.
    """
    dense = torch.empty(shape, device="meta")
    flat = _value(product).shape
    plain = (product, lambda result: View(result.source, result.meta.view(flat)), tuple(dense.stride()), ())
    view = _only_reader(product, _RESHAPES)
    if view is None or tuple(_value(view).shape) != shape:
        return plain
    turned = _only_reader(view, ("permute", "transpose"))
    copy = _only_reader(turned, ("clone",)) if turned is not None else None
    if turned is None or copy is None or not _value(copy).is_contiguous():
        return plain
    order = _order(turned, len(shape))
    if _value(copy).numel() != dense.numel() or order[-1] != len(shape) - 1:
        return plain
    target = torch.empty(_value(copy).shape, device="meta")
    back = [order.index(axis) for axis in range(len(shape))]
    strides = tuple(target.permute(back).stride())
    return copy, lambda result: View(result.source, result.meta.permute(order)), strides, (view, turned, copy)


def _only_reader(node: Node, names: Sequence[str]) -> Node | None:
    readers = list(node.users)
    return readers[0] if len(readers) == 1 and _name(readers[0]) in names else None


def _order(node: Node, rank: int) -> list[int]:
    if _name(node) == "permute":
        axes: Any = node.args[1]
        return [axis % rank for axis in axes]
    order = list(range(rank))
    first, second = (int(axis) % rank for axis in node.args[1:3])  # type: ignore[arg-type]
    order[first], order[second] = order[second], order[first]
    return order
