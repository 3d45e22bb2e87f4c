"""Rows of a compressed table picked by index, as a quantized embedding does: each index is checked first."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import ClassVar

from kernels.compiler.gather_ir import GatherKernel, verify_gather
from kernels.compiler.ir import Buffer, IrError
from kernels.quantized.cpu_rows import KINDS, row_bytes

_CODES = {"int8": "int8", "codebook": "uint8", "bfloat16": "uint16"}


@dataclass(frozen=True, slots=True)
class QuantizedGatherKernel:
    """out[i, column] = table[index[i], column] for each point i of `extents`, out being float32; strides in elements.

    kind, bits, group: of the table, as kernels.quantized.cpu_rows has them; books: rows of its codebooks, 1 or `rows`.
    rows, columns: of the table, which lies row after row. index, out: as of a GatherKernel.
    """

    kind: str
    index_dtype: str
    extents: tuple[int, ...]
    rows: int
    columns: int
    index: tuple[int, ...]
    out: tuple[int, ...]
    bits: int = 8
    books: int = 1
    group: int = 1
    raises: ClassVar[bool] = True
    """Its function may raise, so that it is called from Python alone."""

    @property
    def plain(self) -> GatherKernel:
        """Return the gather of the same rows from a table of float32."""
        layout = (self.columns, 1)
        return GatherKernel(
            "float32", self.index_dtype, self.extents, self.rows, self.columns, self.index, layout, self.out
        )

    @property
    def groups(self) -> int:
        """Return how many codebooks a row has."""
        return -(-self.columns // self.group)

    @property
    def width(self) -> int:
        """Return the elements of a row of codes."""
        return row_bytes(self.columns, self.bits) if self.kind == "codebook" else self.columns

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """Return the memory of the kernel: indices, codes, scales, of codebooks the tables, and the result."""
        index, _, out = self.plain.buffers
        scales = {"int8": self.rows, "bfloat16": 1, "codebook": self.books * self.groups}[self.kind]
        codes = Buffer("codes", _CODES[self.kind], self.rows * self.width)
        tables = Buffer("tables", "int8", self.books * self.groups << self.bits)
        own = (tables,) if self.kind == "codebook" else ()
        return (index, codes, Buffer("scales", "float32", scales), *own, out)

    @property
    def points(self) -> int:
        """Return how many rows are picked."""
        return math.prod(self.extents)

    def key(self) -> str:
        """Return a hash of everything that the generated code depends on."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:24]


def verify_quantized_gather(kernel: QuantizedGatherKernel) -> None:
    """Return nothing if the kernel keeps the rules; raise IrError on the first that it breaks."""
    if kernel.kind not in KINDS:
        raise IrError(f"a gather from a table of {kernel.kind!r}; tables are of {', '.join(KINDS)}")
    if kernel.kind == "codebook":
        fits = 1 <= kernel.bits <= 4 and kernel.group >= 1 and kernel.books in (1, kernel.rows)
        if not fits:
            given = f"{kernel.bits} bits, groups of {kernel.group}, {kernel.books} rows of codebooks"
            raise IrError(f"a gather from codes of {given}; give 1 to 4 bits, and codebooks for all rows or for each")
    verify_gather(kernel.plain)
