"""What lowering is made of: views under construction, new definitions, and the table of handlers by op."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch

from optimizers.fusion.graph import (
    DTYPES,
    Call,
    Definition,
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


ANY_DTYPE: set[str] = set()
"""Ops whose handler takes operands of dtypes that no region computes with."""


def handles(*names: str, any_dtype: bool = False) -> Callable[[Handler], Handler]:
    """Register a handler for the ATen ops `names`."""

    def register(handler: Handler) -> Handler:
        ANY_DTYPE.update(names if any_dtype else ())
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
        self.device = "cpu"
        """The type of the device that the program is for."""
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
