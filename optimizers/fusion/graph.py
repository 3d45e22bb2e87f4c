"""The lowered graph: one definition a tensor, views folded into offset and strides, affine index maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

DTYPES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.int32: "int32",
    torch.int64: "int64",
    torch.bool: "bool",
}
ITEM_BYTES = {"float32": 4, "float64": 8, "int32": 4, "int64": 8, "bool": 1, "int8": 1, "uint8": 1, "uint16": 2}
"""Of what kernels read and write; regions compute with the DTYPES alone."""

Affine = tuple[int, tuple[int, ...]]
"""`constant + sum(coefficients[k] * i_k)` over the axes of some domain."""
Map = tuple[Affine, ...]
"""Where a point of a domain falls in a definition: one Affine for each of the definition's axes."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A strided window onto a definition's memory, in elements: any view (slice, transpose, expand) is one."""

    source: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number as an operand, of the operation's own dtype."""

    value: int | float | bool


Operand = Reference | Scalar


@dataclass(frozen=True, slots=True)
class Call:
    """An ATen op that stays with the library; References stand for tensors in args and kwargs."""

    target: Any
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    results: tuple[int | None, ...]
    """Definitions of the results, None where a result is no tensor."""
    many: bool
    """The op returns a tuple or list."""
    random: bool
    slices: tuple[int, ...] = ()
    """Definitions that are slices of the first result."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One tensor of the program.

    kind:     "input", "weight" or "constant" (memory that is there before), "compute" (one IR op at each point of
              its shape), "reduce" (over `axes` of its operand), "call" (result of `call`), "join" (memory that
              parts of a concatenation are stored into).
    operands: of a compute, expanded to its shape; of a reduce, of the shape that is reduced.
    number:   position among the inputs, weights, constants or calls.
    place:    of what lives in a slice of another definition: (that definition, offset, strides).
    node:     the node of the captured graph that it comes from.
    keep:     of a reduce: reduced axes stay, with extent 1.
    """

    index: int
    kind: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    op: str = ""
    operands: tuple[Operand, ...] = ()
    axes: tuple[int, ...] = ()
    keep: bool = False
    axis: int = 0
    number: int = -1
    place: tuple[int, int, tuple[int, ...]] | None = None
    node: str = ""

    @property
    def numel(self) -> int:
        """Return the number of elements."""
        return math.prod(self.shape)

    @property
    def domain(self) -> tuple[int, ...]:
        """Return the extents over which it is computed: a reduction's are its operand's."""
        operand = self.operands[0] if self.kind == "reduce" else None
        return operand.shape if isinstance(operand, Reference) else self.shape

    @property
    def fusable(self) -> bool:
        """Return whether a region may compute it."""
        return self.kind in ("compute", "reduce")


@dataclass(frozen=True)
class Lowered:
    """The program before grouping. outputs: for each flat output leaf a Reference or a plain value."""

    definitions: tuple[Definition, ...]
    calls: tuple[Call, ...]
    outputs: tuple[Any, ...]
    constants: tuple[torch.Tensor, ...] = ()
    """Tensors that forward made of Python numbers."""
    users: tuple[tuple[int, ...], ...] = field(default=())
    """For each definition, the compute and reduce definitions that read it."""
    library: frozenset[str] = frozenset()
    """Nodes that stay with the library."""

    def call_inputs(self, call: Call) -> tuple[Reference, ...]:
        """Return the tensors that a call reads."""
        return tuple(references_in((call.args, tuple(value for _, value in call.kwargs))))


def users_of(definitions: Sequence[Definition]) -> tuple[tuple[int, ...], ...]:
    """Return, for each definition, the computed definitions that read it."""
    users: list[list[int]] = [[] for _ in definitions]
    for definition in definitions:
        for operand in definition.operands:
            if isinstance(operand, Reference) and (
                not users[operand.source] or users[operand.source][-1] != definition.index
            ):
                users[operand.source].append(definition.index)
    return tuple(tuple(row) for row in users)


def references_in(value: Any) -> list[Reference]:
    """Return every Reference in nested tuples and lists."""
    if isinstance(value, Reference):
        return [value]
    if isinstance(value, tuple | list):
        return [reference for item in value for reference in references_in(item)]
    return []


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a contiguous tensor."""
    strides: list[int] = []
    step = 1
    for extent in reversed(shape):
        strides.append(step)
        step *= max(extent, 1)
    return tuple(reversed(strides))


def is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Return whether every element of `shape` has its own place and there are no gaps."""
    step = 1
    for stride, extent in sorted((s, n) for s, n in zip(strides, shape, strict=True) if n > 1):
        if stride != step:
            return False
        step *= extent
    return True


def span(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Return how many elements lie between the first and the last one of a window, both included."""
    return 1 + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))


def expand(reference: Reference, shape: tuple[int, ...]) -> Reference:
    """Return `reference` broadcast to `shape`."""
    missing = len(shape) - len(reference.shape)
    strides = [0] * missing
    for extent, wanted, stride in zip(reference.shape, shape[missing:], reference.strides, strict=True):
        strides.append(0 if extent == 1 and wanted != 1 else stride)
    return Reference(reference.source, reference.offset, shape, tuple(strides))


def linear(reference: Reference, point: Map, extents: Sequence[int]) -> Affine:
    """Return where in the source's memory the element at `point` (a Map into the reference's shape) lies.

    extents: of the domain's axes; along an axis of extent 1 the coefficient is 0.
    """
    constant = reference.offset + sum(s * c for s, (c, _) in zip(reference.strides, point, strict=True))
    coefficients = [0] * len(extents)
    for stride, (_, row) in zip(reference.strides, point, strict=True):
        if stride:
            for axis, coefficient in enumerate(row):
                coefficients[axis] += stride * coefficient if extents[axis] > 1 else 0
    return constant, tuple(coefficients)


def invert(place: Affine, definition: Definition, extents: Sequence[int]) -> Map | None:
    """Return the index of `definition` at each point of a domain whose memory place is `place`.

    None where the place crosses rows in a way that no affine index follows (a reshape that merges axes).
    """
    constant, coefficients = place
    rest = list(coefficients)
    digits: dict[int, Affine] = {}
    axes = [axis for axis, extent in enumerate(definition.shape) if extent > 1]
    for axis in sorted(axes, key=lambda axis: -definition.strides[axis]):
        stride = definition.strides[axis]
        digit, constant = divmod(constant, stride)
        row = tuple(value // stride for value in rest)
        rest = [value - stride * part for value, part in zip(rest, row, strict=True)]
        highest = digit + sum(part * (extent - 1) for part, extent in zip(row, extents, strict=True))
        if digit < 0 or highest >= definition.shape[axis]:
            return None
        digits[axis] = (digit, row)
    if constant or any(value and extent > 1 for value, extent in zip(rest, extents, strict=True)):
        return None
    zero = (0, (0,) * len(extents))
    return tuple(digits.get(axis, zero) for axis in range(len(definition.shape)))
