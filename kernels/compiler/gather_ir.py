"""Rows of a table picked by index, as an embedding does: the kernel checks each index before it reads."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import ClassVar

from kernels.compiler.ir import DTYPES, Buffer, IrError


@dataclass(frozen=True, slots=True)
class GatherKernel:
    """out[i, column] = table[index[i], column] for each point i of `extents`; strides are in elements.

    dtype: of table and out; index_dtype: int32 or int64.
    index: the stride of the indices along each extent; table: (row, column) of `rows` x `columns`; out: along each
    extent, then along the columns.
    """

    dtype: str
    index_dtype: str
    extents: tuple[int, ...]
    rows: int
    columns: int
    index: tuple[int, ...]
    table: tuple[int, int]
    out: tuple[int, ...]
    raises: ClassVar[bool] = True
    """Its function may raise, so that it is called from Python alone."""

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """Return the memory of the kernel: the indices, the table, the result."""
        return (
            Buffer("index", self.index_dtype, _reach(self.extents, self.index)),
            Buffer("table", self.dtype, _reach((self.rows, self.columns), self.table)),
            Buffer("out", self.dtype, _reach((*self.extents, self.columns), self.out), True),
        )

    @property
    def points(self) -> int:
        """Return how many rows are picked."""
        return math.prod(self.extents)

    def key(self) -> str:
        """Return a hash of everything that the generated code depends on."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:24]


def _reach(extents: tuple[int, ...], strides: tuple[int, ...]) -> int:
    return 1 + sum((extent - 1) * stride for extent, stride in zip(extents, strides, strict=True))


def verify_gather(kernel: GatherKernel) -> None:
    """Return nothing if the kernel keeps the rules; raise IrError on the first that it breaks."""
    if kernel.dtype not in DTYPES or kernel.index_dtype not in ("int32", "int64"):
        raise IrError(f"a gather of {kernel.dtype} by {kernel.index_dtype}; indices are int32 or int64")
    if min((*kernel.extents, kernel.rows, kernel.columns)) < 1:
        raise IrError(f"a gather of {kernel.points} rows out of {kernel.rows} x {kernel.columns}; leave empty ones out")
    if len(kernel.index) != len(kernel.extents) or len(kernel.out) != len(kernel.extents) + 1:
        raise IrError(f"a gather over {kernel.extents} with strides {kernel.index} and {kernel.out}")
    if min((*kernel.index, *kernel.table, *kernel.out)) < 0:
        raise IrError(f"a gather with strides backwards: {kernel.index}, {kernel.table}, {kernel.out}")
    steps = sorted(zip(kernel.out, (*kernel.extents, kernel.columns), strict=True))
    reach = 0
    for stride, extent in steps:
        if extent > 1 and stride <= reach:
            raise IrError(f"a gather puts several rows into one element: strides {kernel.out}")
        reach += stride * (extent - 1)
