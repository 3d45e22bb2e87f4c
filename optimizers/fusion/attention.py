"""Attention in a lowered graph: the target of a call, and the kernel that the call becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kernels.compiler.attention_ir import MOST_STACK_BYTES, AttentionKernel, Mask, why_not
from kernels.compiler.attention_plan import cut
from optimizers.fusion.graph import Call, Reference
from optimizers.fusion.lowering import Lowering, View
from optimizers.fusion.targets import KernelTarget

LIBRARY = "@attention"
"""Behind the name of a node that stays with the library: its attention is no kernel, what surrounds it may be."""


@dataclass(frozen=True, slots=True)
class Attention(KernelTarget):
    """What a call runs instead of ATen ops: softmax(scale * q @ k.T, masked) @ v; its arguments are q, k, v and mask.

    mask: how the fourth argument is meant, as in kernels.compiler.attention_ir.Mask; "" where there is none.
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

    def kernel(self, windows: Sequence[Reference], dtypes: Sequence[str] = ()) -> AttentionKernel:
        """Return the kernel for windows of q, k, v, the mask if there is one, and the result, all of float32."""
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
