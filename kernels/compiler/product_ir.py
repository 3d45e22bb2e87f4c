"""A linear layer as one kernel: a matrix product, and the pointwise region that reads it while it is hot."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

from kernels.compiler import gemm
from kernels.compiler.gemm_fuse import Fused, fuse
from kernels.compiler.ir import Access, Buffer, IrError, Region, Store, Value
from kernels.compiler.passes import simplify
from kernels.compiler.verify import verify


@dataclass(frozen=True, slots=True)
class ProductKernel:
    """left [rows, depth] @ right [depth, columns], float32, with `region` applied to it.

    left_strides, right_strides: (row, depth) and (depth, column) in elements. A weight [columns, depth], as a linear
        layer has it, is a right factor with the strides (1, depth).
    region: pointwise, over rows and columns (or a part of the columns, if it reads several); it reads the product in
        its buffer `sums`, row after row, which is no memory of the kernel's.
    """

    rows: int
    columns: int
    depth: int
    left_strides: tuple[int, int]
    right_strides: tuple[int, int]
    region: Region
    sums: int

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """Return the memory of the kernel: the left factor, the right one, then that of the region."""
        left = 1 + (self.rows - 1) * self.left_strides[0] + (self.depth - 1) * self.left_strides[1]
        right = 1 + (self.depth - 1) * self.right_strides[0] + (self.columns - 1) * self.right_strides[1]
        factors = (Buffer("left", "float32", left), Buffer("right", "float32", right))
        return (*factors, *(buffer for k, buffer in enumerate(self.region.buffers) if k != self.sums))

    @property
    def fused(self) -> Fused:
        """Return product and region as one. Raises IrError where they cannot be, in a line that says why."""
        found = _fused(self)
        if isinstance(found, str):
            raise IrError(f"the product cannot take its region in: {found}")
        return found

    @property
    def flops(self) -> int:
        """Return the additions and multiplications of the product."""
        return 2 * self.rows * self.columns * self.depth

    @property
    def along_depth(self) -> bool:
        """Return whether both factors lie along the depth, so that sums of vectors of it are fastest."""
        return (self.left_strides[1] == 1 and self.right_strides[0] == 1) or self.depth == 1

    @property
    def copied(self) -> Store | None:
        """Return the store of a region that only copies the product, its columns adjacent; None for any other one."""
        region = self.fused.region
        alone = len(region.values) == 1 and len(region.stores) == 1 and self.fused.product.groups == 1
        store = region.stores[0]
        return store if alone and store.access.strides[1] == 1 else None

    def key(self) -> str:
        """Return a hash of everything that the generated code depends on (buffer names excepted)."""
        shape = (self.rows, self.columns, self.depth, self.left_strides, self.right_strides, self.sums)
        return hashlib.sha256(f"{shape} {self.region.key()}".encode()).hexdigest()[:24]


@cache
def _fused(kernel: ProductKernel) -> Fused | str:
    term = gemm.Term(kernel.depth, kernel.left_strides, (kernel.right_strides[0], 0, kernel.right_strides[1]))
    product = gemm.Product(kernel.rows, kernel.columns, (term,))
    return fuse(product, simplify(kernel.region), kernel.sums, kernel.columns)


def why_not(kernel: ProductKernel) -> str:
    """Return in one line why product and region cannot be one kernel; "" where they can."""
    if not kernel.along_depth and kernel.right_strides[1] != 1:
        return "no axis of the right factor is adjacent, or not the one along which the left factor lies"
    found = _fused(kernel)
    return found if isinstance(found, str) else ""


def verify_product(kernel: ProductKernel) -> None:
    """Return nothing if the kernel keeps the rules; raise IrError on the first that it breaks."""
    if kernel.depth < 1 or min(*kernel.left_strides, *kernel.right_strides) < 0:
        raise IrError(f"a product of depth {kernel.depth}, strides {kernel.left_strides}, {kernel.right_strides}")
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
        raise IrError(f"the product cannot take its region in: {why}")


def copy_region(rows: int, columns: int, strides: tuple[int, int], bias: tuple[int, int] | None) -> Region:
    """Return the region that stores a product at these strides (row, column); bias: the strides of one to add.

    Its buffers: the product, the result, the bias.
    """

    def reach(pair: tuple[int, int]) -> int:
        return 1 + (rows - 1) * pair[0] + (columns - 1) * pair[1]

    buffers = [Buffer("sums", "float32", rows * columns), Buffer("out", "float32", reach(strides), True)]
    values = [Value("load", "float32", access=Access(0, 0, (columns, 1)))]
    if bias is not None:
        buffers.append(Buffer("bias", "float32", reach(bias)))
        values.append(Value("load", "float32", access=Access(2, 0, bias)))
        values.append(Value("add", "float32", (0, 1)))
    store = Store(len(values) - 1, Access(1, 0, strides))
    return Region((rows, columns), 0, tuple(buffers), tuple(values), (store,))
