"""Embeddings as kernels: rows of a weight by index, an index that is no row being the error that eager raises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kernels.compiler.gather_ir import GatherKernel
from optimizers.fusion.graph import Call, Lowered, Reference
from optimizers.fusion.lowering import Lowering, handles
from optimizers.fusion.memory import Memory, Places
from optimizers.fusion.regions import Bound
from optimizers.fusion.schedule import Unit

_FOR_GRADIENTS = {"padding_idx", "scale_grad_by_freq", "sparse"}
MOST_BYTES = 1 << 20
"""Of rows that are picked: above it the library shares them out to threads, and its call is nothing beside the copy."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """What a call runs instead of the ATen op; its arguments are the table and the indices."""

    node: str

    def __str__(self) -> str:
        """Return what a table of calls shows: an op's name would stand here."""
        return "hotbench.embedding"

    def kernel(self, index: Reference, table: Reference, out: Reference, dtypes: tuple[str, str]) -> GatherKernel:
        """Return the kernel for windows of the indices, the table and the result; dtypes: of indices and table."""
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
    target, operands = Embedding(node.name), (index.reference(), table.reference())
    lowering.calls.append(Call(target, operands, (), (result.source,), False, False))
    return result


def embedding_calls(lowered: Lowered) -> set[int]:
    """Return the numbers of the calls that are embeddings."""
    return {number for number, call in enumerate(lowered.calls) if isinstance(call.target, Embedding)}


def bind_embeddings(
    lowered: Lowered, units: Sequence[Unit], bounds: Mapping[int, Bound], places: Places
) -> tuple[tuple[Unit, ...], dict[int, Bound]]:
    """Return the units and bounds with each call of an Embedding as a kernel."""
    found, ordered = dict(bounds), list(units)
    for position, unit in enumerate(ordered):
        target: Any = lowered.calls[unit.number].target if unit.kind == "call" else None
        if isinstance(target, Embedding):
            number = max(found, default=-1) + 1
            found[number] = _bound(lowered, lowered.calls[unit.number], target, places)
            ordered[position] = Unit("group", number)
    return tuple(ordered), found


def _bound(lowered: Lowered, call: Call, target: Embedding, places: Places) -> Bound:
    definition = lowered.definitions[call.results[0] or 0]
    whole = Reference(definition.index, 0, definition.shape, definition.strides)
    located: list[tuple[Memory, Reference]] = [places.window(reference) for reference in (*call.args, whole)]
    index, table, out = (window for _, window in located)
    dtypes = (lowered.definitions[call.args[0].source].dtype, lowered.definitions[call.args[1].source].dtype)
    memories = tuple((memory, window.offset) for memory, window in located)
    return Bound(target.kernel(index, table, out, dtypes), memories, (target.node,))
