"""Attention as one kernel: softmax(scale * queries @ keys.T + mask) @ values, for each point of some leading axes."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from kernels.compiler.ir import Buffer, IrError

MOST_STACK_BYTES = 2 << 20
"""What one call may hold on the stack: keys and values in panels, and the scores of some rows."""

_LARGEST = 3.4028234663852886e38
"""Of float32."""


@dataclass(frozen=True, slots=True)
class Mask:
    """What is done to the scores before the softmax.

    kind:    "add": the float32 mask is added; "keep": where the bool mask does not hold, the score becomes `fill`;
             "drop": where it holds.
    strides: (leading axes …, query, key) in elements.
    """

    kind: str
    strides: tuple[int, ...]
    fill: float = float("-inf")

    @property
    def dtype(self) -> str:
        """Return the mask's element type."""
        return "float32" if self.kind == "add" else "bool"


@dataclass(frozen=True, slots=True)
class AttentionKernel:
    """out [leading …, queries, width], float32; the last axis of out has stride 1.

    leading: extents of the axes that have an attention of their own: batch and heads.
    depth:   of queries and keys; width: of values and of the result.
    query_strides, key_strides, value_strides, out_strides: (leading axes …, row, column) in elements.
    causal:  a query sees no key behind its own position.
    masked_rows_are_zero: what a query gets that sees no key at all: 0, or NaN as a plain softmax gives.
    """

    leading: tuple[int, ...]
    queries: int
    keys: int
    depth: int
    width: int
    query_strides: tuple[int, ...]
    key_strides: tuple[int, ...]
    value_strides: tuple[int, ...]
    out_strides: tuple[int, ...]
    scale: float
    mask: Mask | None = None
    causal: bool = False
    masked_rows_are_zero: bool = True

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """Return the memory of the kernel: queries, keys, values, the mask if there is one, the result."""
        rows = (*self.leading, self.queries)
        found = [
            Buffer("queries", "float32", _reach((*rows, self.depth), self.query_strides)),
            Buffer("keys", "float32", _reach((*self.leading, self.keys, self.depth), self.key_strides)),
            Buffer("values", "float32", _reach((*self.leading, self.keys, self.width), self.value_strides)),
        ]
        if self.mask is not None:
            found.append(Buffer("mask", self.mask.dtype, _reach((*rows, self.keys), self.mask.strides)))
        return (*found, Buffer("out", "float32", _reach((*rows, self.width), self.out_strides), True))

    @property
    def items(self) -> int:
        """Return how many attentions there are, each a piece of work for one thread."""
        count = 1
        for extent in self.leading:
            count *= extent
        return count

    @property
    def flops(self) -> int:
        """Return the additions and multiplications of both products."""
        return 2 * self.items * self.queries * self.keys * (self.depth + self.width)

    def key(self) -> str:
        """Return a hash of everything that the generated code depends on."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:24]


def verify_attention(kernel: AttentionKernel) -> None:
    """Return nothing if the kernel keeps the rules; raise IrError on the first that it breaks."""
    reason = why_not(kernel)
    if reason:
        raise IrError(reason)
    rank = len(kernel.leading) + 2
    strides = [kernel.query_strides, kernel.key_strides, kernel.value_strides, kernel.out_strides]
    strides += [] if kernel.mask is None else [kernel.mask.strides]
    if any(len(row) != rank or min(row) < 0 for row in strides):
        raise IrError(f"attention has strides {strides}; give {rank} of 0 or more each")
    if kernel.mask is not None and kernel.mask.kind not in ("add", "keep", "drop"):
        raise IrError(f"attention has a mask of kind {kernel.mask.kind}; give add, keep or drop")
    extents = (*kernel.leading, kernel.queries, kernel.width)
    _check_distinct(extents, kernel.out_strides)


def why_not(kernel: AttentionKernel) -> str:
    """Return in one line why there is no kernel for it; "" if there is one."""
    if min(*kernel.leading, kernel.queries, kernel.keys, kernel.depth, kernel.width) < 1:
        return "attention over an empty axis"
    if kernel.out_strides[-1] != 1 and kernel.width > 1:
        return f"attention with results that are {kernel.out_strides[-1]} elements apart"
    if not abs(kernel.scale) <= _LARGEST:
        return f"attention with scores scaled by {kernel.scale}, which is no finite float32 number"
    if kernel.mask is not None and not (kernel.mask.fill == -math.inf or abs(kernel.mask.fill) <= _LARGEST):
        return f"attention with scores of {kernel.mask.fill} where they are masked; -inf and finite numbers are known"
    return ""


def _check_distinct(extents: tuple[int, ...], strides: tuple[int, ...]) -> None:
    reach = 0
    for stride, extent in sorted((s, n) for s, n in zip(strides, extents, strict=True) if n > 1):
        if stride <= reach:
            raise IrError(f"attention stores {extents} at strides {strides}, where results meet")
        reach += stride * (extent - 1)


def _reach(extents: tuple[int, ...], strides: tuple[int, ...]) -> int:
    return 1 + sum((extent - 1) * stride for extent, stride in zip(extents, strides, strict=True))
