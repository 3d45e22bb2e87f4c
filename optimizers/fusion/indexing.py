"""Indexing whose result a kernel can compute: positions that follow from where an element is, and rows by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kernels.compiler.gather_ir import GatherKernel
from optimizers.fusion.graph import Call, Operand, Reference, Scalar
from optimizers.fusion.lowering import Lowering, View, handles
from optimizers.fusion.targets import KernelTarget

Position = tuple[int, tuple[int, ...]]
"""constant + sum(steps[axis] * place along axis) of a result's axes."""


@handles("index")
def _index(lowering: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Take an index of aranges, one for each axis, as a view: element i of it is where they say."""
    x, indices = args[0], args[1]
    value = node.meta["val"]
    if kwargs or len(indices) != len(x.shape) or not all(isinstance(item, View) for item in indices):
        return NotImplemented
    offset, strides = int(x.meta.storage_offset()), [0] * value.dim()
    for item, extent, stride in zip(indices, x.shape, x.meta.stride(), strict=True):
        position = _position(lowering, item, tuple(value.shape))
        if position is None or not _inside(position, tuple(value.shape), extent):
            return NotImplemented
        offset += stride * position[0]
        strides = [have + stride * step for have, step in zip(strides, position[1], strict=True)]
    picked = View(x.source, x.meta.as_strided(tuple(value.shape), tuple(strides), offset))
    return lowering.apply("identity", picked, like=value)


def _position(lowering: Lowering, item: View, shape: tuple[int, ...]) -> Position | None:
    """Return the values of an index over a result's axes, None where they do not follow from the place."""
    line = _line(lowering, item.source)
    missing = len(shape) - len(item.shape)
    if line is None or missing < 0:
        return None
    first, step = line
    pairs = zip(item.shape, item.meta.stride(), strict=True)
    steps = [0] * missing + [step * int(stride) if extent > 1 else 0 for extent, stride in pairs]
    return first + step * int(item.meta.storage_offset()), tuple(steps)


def _line(lowering: Lowering, index: int) -> tuple[int, int] | None:
    """Return (first value, step) of a definition along its one axis, None where its values are not in such a line."""
    definition = lowering.definitions[index]
    if len(definition.shape) > 1 or definition.dtype not in ("int32", "int64"):
        return None
    if definition.op == "index":
        return 0, 1
    found = [_line_of(lowering, operand) for operand in definition.operands]
    lines = [line for line in found if line is not None]
    if len(lines) < len(found) or definition.op not in ("constant", "identity", "cast", "add", "sub", "mul"):
        return None
    if definition.op in ("add", "sub"):
        (first, step), (other, slope) = lines
        sign = 1 if definition.op == "add" else -1
        return first + sign * other, step + sign * slope
    if definition.op == "mul":
        (first, step), (factor, slope) = sorted(lines, key=lambda line: line[1] == 0)
        return None if slope else (first * factor, step * factor)
    return lines[0] if lines else None


def _line_of(lowering: Lowering, operand: Operand) -> tuple[int, int] | None:
    if isinstance(operand, Scalar):
        return (int(operand.value), 0) if isinstance(operand.value, int) else None
    line = _line(lowering, operand.source)
    if line is None:
        return None
    stride = operand.strides[0] if operand.strides else 0
    return line[0] + line[1] * operand.offset, line[1] * stride


def _inside(position: Position, shape: tuple[int, ...], extent: int) -> bool:
    """Return whether every value is a place of an axis with so many elements."""
    reach = [step * (size - 1) for step, size in zip(position[1], shape, strict=True)]
    low = position[0] + sum(part for part in reach if part < 0)
    return low >= 0 and position[0] + sum(part for part in reach if part > 0) < extent


@dataclass(frozen=True, slots=True)
class Gathered(KernelTarget):
    """What a call runs instead of aten.gather along an axis, where all others are one row; table, then indices."""

    nodes: tuple[str, ...]

    def __str__(self) -> str:
        """Return what a table of calls shows: an op's name would stand here."""
        return "hotbench.gather"

    def kernel(self, windows: Sequence[Reference], dtypes: Sequence[str]) -> GatherKernel:
        """Return the kernel for windows of the indices, the table as a column, and the result, and their dtypes."""
        index, table, out = windows
        layout = (table.strides[0], 1)
        return GatherKernel(
            dtypes[1], dtypes[0], index.shape, table.shape[0], 1, index.strides, layout, (*out.strides, 1)
        )


@handles("gather")
def _gather(lowering: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    x, axis, index = args[:3]
    value = node.meta["val"]
    if not x.shape or lowering.device != "cpu" or not value.is_contiguous():
        return NotImplemented
    axis %= len(x.shape)
    pairs = list(zip(x.shape, x.meta.stride(), strict=True))
    if any(extent > 1 and stride for k, (extent, stride) in enumerate(pairs) if k != axis):
        return NotImplemented
    extent, stride = pairs[axis]
    column = View(x.source, x.meta.as_strided((extent, 1), (stride, 1), x.meta.storage_offset()))
    result = lowering.define("call", value.shape, value.stride(), value.dtype, number=len(lowering.calls))
    operands = (index.reference(), column.reference())
    lowering.calls.append(Call(Gathered((node.name,)), operands, (), (result.source,), False, False))
    return result
