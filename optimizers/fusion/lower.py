"""From a captured ATen graph to definitions: views are folded, pointwise ops and reductions become IR ops."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch

from optimizers.fusion.capture import Captured, UnfusableError
from optimizers.fusion.graph import (
    DTYPES,
    Call,
    Definition,
    Lowered,
    Operand,
    Reference,
    Scalar,
    dense_strides,
    expand,
    is_dense,
)

Handler = Callable[["Lowering", torch.fx.Node, list[Any], dict[str, Any]], Any]
HANDLERS: dict[str, Handler] = {}
"""By ATen name without overload; filled by elementwise.py and reductions.py. NotImplemented leaves an op to ATen."""


# Ops that take a bias into their region: all with a handler but those that only copy.
_COPIES = frozenset(("cat", "stack", "clone", "_to_copy", "contiguous", "lift_fresh_copy", "addmm"))


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler for the ATen ops `names`."""

    def register(handler: Handler) -> Handler:
        for name in names:
            HANDLERS[name] = handler
        return handler

    return register


class View:
    """A tensor while lowering: its definition and, on the meta device, the window onto it."""

    __slots__ = ("meta", "source")

    def __init__(self, source: int, meta: torch.Tensor) -> None:
        self.source = source
        self.meta = meta

    @property
    def dtype(self) -> torch.dtype:
        """Return the element type."""
        return self.meta.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the extents."""
        return tuple(self.meta.shape)

    def reference(self) -> Reference:
        """Return the window in elements."""
        return Reference(self.source, int(self.meta.storage_offset()), self.shape, tuple(self.meta.stride()))


Item = View | int | float | bool


class Lowering:
    """Builds the definitions of one program, node by node."""

    def __init__(self, excluded: Collection[str] = ()) -> None:
        self.excluded = excluded
        self.definitions: list[Definition] = []
        self.calls: list[Call] = []
        self.constants: list[torch.Tensor] = []
        self.node = ""

    def define(
        self, kind: str, shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype, **fields: Any
    ) -> View:
        """Return a new tensor."""
        index = len(self.definitions)
        name = DTYPES.get(dtype, str(dtype).removeprefix("torch."))
        self.definitions.append(Definition(index, kind, tuple(shape), tuple(strides), name, node=self.node, **fields))
        return View(index, torch.empty_strided(tuple(shape), tuple(strides), dtype=dtype, device="meta"))

    def apply(
        self, op: str, *operands: Item, dtype: torch.dtype | None = None, like: torch.Tensor | None = None
    ) -> View:
        """Return the pointwise `op` over the broadcast operands; the first View's dtype unless told otherwise.

        like: a tensor whose shape and memory layout the result takes.
        """
        views = [item for item in operands if isinstance(item, View)]
        wanted = dtype or views[0].dtype
        shape = tuple(like.shape) if like is not None else _broadcast([view.shape for view in views])
        strides = tuple(like.stride()) if like is not None else dense_strides(shape)
        if not is_dense(shape, strides):
            strides = dense_strides(shape)
        return self.define(
            "compute", shape, strides, wanted, op=op, operands=tuple(self._operand(o, shape) for o in operands)
        )

    def _operand(self, item: Item, shape: tuple[int, ...]) -> Operand:
        return expand(item.reference(), shape) if isinstance(item, View) else Scalar(item)

    def constant(self, value: int | float | bool, shape: Sequence[int], dtype: torch.dtype) -> View:
        """Return a tensor full of `value`."""
        return self.define("compute", shape, dense_strides(shape), dtype, op="constant", operands=(Scalar(value),))

    def index(self, shape: Sequence[int], axis: int) -> View:
        """Return a tensor of positions along `axis`, int64."""
        return self.define("compute", shape, dense_strides(shape), torch.int64, op="index", axis=axis)

    def cast(self, item: Item, dtype: torch.dtype) -> Item:
        """Return `item` as `dtype`."""
        if not isinstance(item, View):
            return _cast_number(item, dtype)
        return item if item.dtype == dtype else self.apply("cast", item, dtype=dtype)

    def reduce(self, op: str, item: View, axes: Sequence[int], keep: bool = True) -> View:
        """Return the reduction `op` of `item` over `axes`."""
        rank = len(item.shape)
        chosen = tuple(sorted({axis % rank for axis in axes})) if rank else ()
        if all(item.shape[axis] == 1 for axis in chosen):
            view = self.apply("identity", item)
            return view if keep or not chosen else self._squeeze(view, chosen)
        shape = [1 if axis in chosen else extent for axis, extent in enumerate(item.shape)]
        view = self.define(
            "reduce",
            shape,
            dense_strides(shape),
            item.dtype,
            op=op,
            operands=(item.reference(),),
            axes=chosen,
            keep=True,
        )
        return view if keep else self._squeeze(view, chosen)

    def _squeeze(self, view: View, axes: tuple[int, ...]) -> View:
        return View(view.source, view.meta.squeeze(axes))

    def view(self, item: View, *shape: int) -> View:
        """Return `item` as another shape of the same memory."""
        return View(item.source, item.meta.view(*shape))


def _broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape that tensors of these shapes broadcast to; ATen has checked that they do."""
    rank = max((len(shape) for shape in shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(next((extent for extent in extents if extent != 1), 1) for extents in zip(*padded, strict=True))


def _cast_number(value: int | float | bool, dtype: torch.dtype) -> int | float | bool:
    if dtype.is_floating_point:
        return float(value)
    return bool(value) if dtype == torch.bool else int(value)


def lower(captured: Captured, excluded: Collection[str] = ()) -> Lowered:
    """Return the program of a captured graph; nodes named in `excluded` stay with ATen.

    Raises UnfusableError for an output that is neither tensor nor plain value.
    """
    # The handlers register themselves when their modules are imported.
    from optimizers.fusion import elementwise, pooling, reductions  # noqa: F401

    lowering = Lowering(excluded)
    environment: dict[torch.fx.Node, Any] = {}
    outputs: tuple[Any, ...] = ()
    number = 0
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
            environment[node] = _lower_node(lowering, node, environment)
    definitions = tuple(lowering.definitions)
    return Lowered(definitions, tuple(lowering.calls), outputs, tuple(lowering.constants), _users(definitions))


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
    if node.name not in lowering.excluded and _supported(node):
        handler = HANDLERS.get(_name(node.target))
        result = handler(lowering, node, args, kwargs) if handler is not None else NotImplemented
        if result is not NotImplemented:
            return result
    return _call(lowering, node, args, kwargs)


def _name(target: Any) -> str:
    return str(target).split(".")[1] if str(target).startswith("aten.") else str(target)


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


def _users(definitions: Sequence[Definition]) -> tuple[tuple[int, ...], ...]:
    users: list[list[int]] = [[] for _ in definitions]
    for definition in definitions:
        for operand in definition.operands:
            if isinstance(operand, Reference) and (
                not users[operand.source] or users[operand.source][-1] != definition.index
            ):
                users[operand.source].append(definition.index)
    return tuple(tuple(row) for row in users)
