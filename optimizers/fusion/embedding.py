"""Embeddings as kernels: rows of a weight by index, an index that is no row being the error that eager raises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kernels.compiler.gather_ir import GatherKernel
from optimizers.fusion.graph import Call, Reference
from optimizers.fusion.lowering import Lowering, handles
from optimizers.fusion.targets import KernelTarget

_FOR_GRADIENTS = {"padding_idx", "scale_grad_by_freq", "sparse"}
MOST_BYTES = 1 << 20
"""Of rows that are picked: above it the library shares them out to threads, and its call is nothing beside the copy."""


@dataclass(frozen=True, slots=True)
class Embedding(KernelTarget):
    """What a call runs instead of the ATen op; its arguments are the table and the indices."""

    nodes: tuple[str, ...]

    def __str__(self) -> str:
        """Return what a table of calls shows: an op's name would stand here."""
        return "hotbench.embedding"

    def kernel(self, windows: Sequence[Reference], dtypes: Sequence[str]) -> GatherKernel:
        """Return the kernel for windows of the indices, the table and the result, and their dtypes."""
        index, table, out = windows
        rows, columns = table.shape
        strides = (table.strides[0], table.strides[1])
        return GatherKernel(dtypes[1], dtypes[0], index.shape, rows, columns, index.strides, strides, out.strides)


@handles("embedding")
def _embedding(lowering: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The arguments after the first two only say what gradients leave out."""
    table, index = args[:2]
    value = node.meta["val"]
    small = value.numel() * value.element_size() <= MOST_BYTES
    if kwargs.keys() - _FOR_GRADIENTS or not small or not value.is_contiguous() or value.device.type == "cuda":
        return NotImplemented
    number = len(lowering.calls)
    result = lowering.define("call", value.shape, value.stride(), value.dtype, number=number)
    target, operands = Embedding((node.name,)), (index.reference(), table.reference())
    lowering.calls.append(Call(target, operands, (), (result.source,), False, False))
    return result
