"""Attention in a lowered graph: the target of a call, and the kernel that the call becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kernels.compiler.attention_ir import MOST_STACK_BYTES, AttentionKernel, Mask, why_not
from kernels.compiler.attention_plan import cut
from optimizers.fusion.graph import Call, Lowered, Reference
from optimizers.fusion.lowering import Lowering, View
from optimizers.fusion.memory import Memory, Places
from optimizers.fusion.regions import Bound
from optimizers.fusion.schedule import Unit

LIBRARY = "@attention"
"""Behind the name of a node that stays with the library: its attention is no kernel, what surrounds it may be."""


@dataclass(frozen=True, slots=True)
class Attention:
    """What a call runs instead of ATen ops: softmax(scale * q @ k.T, masked) @ v; its arguments are q, k, v and mask.

    mask:  how the fourth argument is meant, as in kernels.compiler.attention_ir.Mask; "" where there is none.
    nodes: the nodes of the captured graph that it computes; the last one has the result.
    """

    scale: float
    mask: str
    fill: float
    causal: bool
    masked_rows_are_zero: bool
    nodes: tuple[str, ...]

    def __str__(self) -> str:
        """Return what a table of calls shows: an op's name would stand here."""
        return "hotbench.attention"

    @property
    def refused(self) -> str:
        """Return the name that leaves it to the library."""
        return self.nodes[-1] + LIBRARY

    def kernel(self, windows: Sequence[Reference]) -> AttentionKernel:
        """Return the kernel for windows of q, k, v, the mask if there is one, and the result."""
        query, key, value, *mask, out = windows
        *leading, queries, depth = query.shape
        return AttentionKernel(
            tuple(leading),
            queries,
            key.shape[-2],
            depth,
            value.shape[-1],
            query.strides,
            key.strides,
            value.strides,
            out.strides,
            self.scale,
            Mask(self.mask, mask[0].strides, self.fill) if mask else None,
            self.causal,
            self.masked_rows_are_zero,
        )


def call_attention(lowering: Lowering, attention: Attention, operands: Sequence[View], strides: Sequence[int]) -> View:
    """Return the result of a new call, at these strides. operands: q, k, v and, where there is one, the mask."""
    references = tuple(operand.reference() for operand in operands)
    shape = (*operands[0].shape[:-1], operands[2].shape[-1])
    result = lowering.define("call", shape, strides, torch.float32, number=len(lowering.calls))
    lowering.calls.append(Call(attention, references, (), (result.source,), False, False))
    return result


def refusal(attention: Attention, operands: Sequence[View], strides: Sequence[int]) -> str:
    """Return in one line why these operands get no kernel; "" if they get one."""
    shape = (*operands[0].shape[:-1], operands[2].shape[-1])
    out = Reference(-1, 0, shape, tuple(strides))
    kernel = attention.kernel([*(operand.reference() for operand in operands), out])
    reason = why_not(kernel)
    if not reason and cut(kernel).stack_bytes > MOST_STACK_BYTES:
        reason = f"attention over {kernel.keys} keys would take too much of the stack"
    return reason


def attention_calls(lowered: Lowered) -> set[int]:
    """Return the numbers of the calls that are attentions."""
    return {number for number, call in enumerate(lowered.calls) if isinstance(call.target, Attention)}


def bind_attention(
    lowered: Lowered, units: Sequence[Unit], bounds: Mapping[int, Bound], places: Places
) -> tuple[tuple[Unit, ...], dict[int, Bound]]:
    """Return the units and bounds with each call of an Attention as a kernel."""
    found, ordered = dict(bounds), list(units)
    for position, unit in enumerate(ordered):
        target: Any = lowered.calls[unit.number].target if unit.kind == "call" else None
        if isinstance(target, Attention):
            number = max(found, default=-1) + 1
            found[number] = _bound(lowered, lowered.calls[unit.number], target, places)
            ordered[position] = Unit("group", number)
    return tuple(ordered), found


def _bound(lowered: Lowered, call: Call, target: Attention, places: Places) -> Bound:
    definition = lowered.definitions[call.results[0] or 0]
    whole = Reference(definition.index, 0, definition.shape, definition.strides)
    located: list[tuple[Memory, Reference]] = [places.window(reference) for reference in (*call.args, whole)]
    memories = tuple((memory, window.offset) for memory, window in located)
    return Bound(target.kernel([window for _, window in located]), memories, target.nodes, target.refused)
