"""A product with quantized weights as one kernel, with the pointwise region that reads it, and what feeds it: rows of
float32 activations converted to what its tiles read.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cache

from kernels.compiler import gemm
from kernels.compiler.gemm_fuse import Fused, fuse
from kernels.compiler.ir import Buffer, IrError, Region
from kernels.compiler.passes import simplify
from kernels.compiler.verify import verify
from kernels.quantized.cpu_lookup_weights import LOOKUP_BITS
from kernels.quantized.cpu_store import depth_of, layout
from kernels.quantized.cpu_weights import LARGEST_COLUMNS, WeightsError

FORMS = {
    "int8": "bytes",
    "codebook": "bytes",
    "grouped-codebook": "bytes",
    "bfloat16": "bfloat16",
    "int8-weight-only": "float32",
    **dict.fromkeys(LOOKUP_BITS, "float32"),
}
"""By the kind of the weights: what the tiles read of the activations."""
_ROW_BYTES = {"bytes": 1, "bfloat16": 2, "float32": 4}
_MULTIPLE = 16
"""Of the columns of a converted row, so that its end needs no other code."""


def converted_words(form: str, rows: int, columns: int) -> int:
    """Return the 32-bit words of converted rows: the rows, then of bytes the scale of each, then the zero of each."""
    padded = -(-columns // _MULTIPLE) * _MULTIPLE
    return rows * (padded * _ROW_BYTES[form] // 4 + (2 if form == "bytes" else 0))


@dataclass(frozen=True, slots=True)
class ConvertKernel:
    """Rows of float32 [rows, columns], `stride` elements apart, -> what tiles of a form read, as `converted_words`.

    bytes: each row with a scale and a zero of its own, x being nearly scale * (byte - zero).
    """

    form: str
    rows: int
    columns: int
    stride: int

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """Return the memory of the kernel: the rows, and what they become."""
        return (
            Buffer("x", "float32", (self.rows - 1) * self.stride + self.columns),
            Buffer("out", "int32", converted_words(self.form, self.rows, self.columns), True),
        )

    @property
    def row_bytes(self) -> int:
        """Return the bytes of a converted row."""
        return -(-self.columns // _MULTIPLE) * _MULTIPLE * _ROW_BYTES[self.form]

    def key(self) -> str:
        """Return a hash of everything that the generated code depends on."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class QuantizedKernel:
    """Converted rows [rows, depth] times the transposed weights [columns, depth], with `region` applied to it.

    kind: of the weights, as cpu_store.layout has them; group: of a grouped codebook, else None.
    region: pointwise, over rows and columns; it reads the product in its buffer `sums`, row after row, which is no
        memory of the kernel's.
    """

    kind: str
    rows: int
    columns: int
    depth: int
    group: int | None
    region: Region
    sums: int

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """Return the memory of the kernel: the converted rows, the arrays of the weights, then that of the region."""
        activations = Buffer("activations", "int32", converted_words(FORMS[self.kind], self.rows, self.depth))
        weights = layout(self.kind, self.columns, self.depth, self.group)
        arrays = (Buffer(name, dtype, math.prod(shape)) for name, (dtype, shape) in weights.items())
        others = (buffer for k, buffer in enumerate(self.region.buffers) if k != self.sums)
        return (activations, *arrays, *others)

    @property
    def fused(self) -> Fused:
        """Return product and region as one. Raises IrError where they cannot be, in a line that says why."""
        found = _fused(self)
        if isinstance(found, str):
            raise IrError(f"the quantized product cannot take its region in: {found}")
        return found

    @property
    def flops(self) -> int:
        """Return the additions and multiplications of the product."""
        return 2 * self.rows * self.columns * self.depth

    @property
    def row_bytes(self) -> int:
        """Return the bytes of a converted row."""
        return depth_of(self.kind, self.depth)

    def key(self) -> str:
        """Return a hash of everything that the generated code depends on (buffer names excepted)."""
        shape = (self.kind, self.rows, self.columns, self.depth, self.group, self.sums)
        return hashlib.sha256(f"{shape} {self.region.key()}".encode()).hexdigest()[:24]


@cache
def _fused(kernel: QuantizedKernel) -> Fused | str:
    # The factors' strides say nothing here: tiles know where converted rows and panels are.
    term = gemm.Term(kernel.depth, (kernel.depth, 1), (1, 0, kernel.depth))
    product = gemm.Product(kernel.rows, kernel.columns, (term,))
    found = fuse(product, simplify(kernel.region), kernel.sums, kernel.columns)
    if not isinstance(found, str) and found.product.groups > 1:
        return "the region reads several columns of the product at a point"
    return found


def why_not(kernel: QuantizedKernel) -> str:
    """Return in one line why product and region cannot be one kernel; "" where they can."""
    found = _fused(kernel)
    return found if isinstance(found, str) else ""


def verify_convert(kernel: ConvertKernel) -> None:
    """Return nothing if the kernel keeps the rules; raise IrError on the first that it breaks."""
    if kernel.form not in _ROW_BYTES:
        raise IrError(f"rows are converted to {', '.join(_ROW_BYTES)}; not to {kernel.form!r}")
    if min(kernel.rows, kernel.columns) < 1 or kernel.columns > LARGEST_COLUMNS:
        raise IrError(f"rows [{kernel.rows}, {kernel.columns}] are empty, or too long: up to {LARGEST_COLUMNS} columns")
    if kernel.stride < kernel.columns and kernel.rows > 1:
        raise IrError(f"rows of {kernel.columns} values that begin every {kernel.stride} overlap")


def verify_quantized(kernel: QuantizedKernel) -> None:
    """Return nothing if the kernel keeps the rules; raise IrError on the first that it breaks."""
    if kernel.kind not in FORMS or min(kernel.rows, kernel.columns, kernel.depth) < 1:
        raise IrError(f"a product of {kernel.kind} weights [{kernel.columns}, {kernel.depth}] for {kernel.rows} rows")
    try:
        layout(kernel.kind, kernel.columns, kernel.depth, kernel.group)
    except WeightsError as error:
        raise IrError(str(error)) from error
    if not 0 <= kernel.sums < len(kernel.region.buffers):
        raise IrError(f"the product is buffer {kernel.sums} of {len(kernel.region.buffers)}")
    verify(kernel.region)
    sums = kernel.region.buffers[kernel.sums]
    if sums.dtype != "float32" or sums.elements > kernel.rows * kernel.columns:
        extents = f"{kernel.rows} x {kernel.columns}"
        raise IrError(f"the region reads {sums.elements} x {sums.dtype} of a product of {extents} x float32")
    if any(buffer.same_as is not None for buffer in kernel.region.buffers):
        raise IrError("the region of a product has buffers that share memory; give each its own")
    why = why_not(kernel)
    if why:
        raise IrError(f"the quantized product cannot take its region in: {why}")
