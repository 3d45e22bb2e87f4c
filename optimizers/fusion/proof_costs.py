"""Bytes that a generated kernel moves in one call, each element of its operands and results once."""

from __future__ import annotations

import math

from kernels.compiler.ir import ITEM_BYTES, Access, Region
from kernels.compiler.loop_ir import LoopProgram
from kernels.compiler.product_ir import ProductKernel
from optimizers.fusion.replay import Body


def kernel_bytes(kernel: Body) -> int:
    """Return the bytes of what a call reads and writes; of a loop without what lives in its own memory."""
    if isinstance(kernel, LoopProgram):
        return sum(buffer.nbytes for buffer in kernel.buffers if buffer.name != "scratch")
    if isinstance(kernel, ProductKernel):
        own = {kernel.sums}
        factors = (kernel.rows + kernel.columns) * kernel.depth * ITEM_BYTES["float32"]
        return factors + _region_bytes(kernel.region, own)
    if isinstance(kernel, Region):
        return _region_bytes(kernel, set())
    return sum(buffer.elements * ITEM_BYTES[buffer.dtype] for buffer in kernel.buffers)


def _region_bytes(region: Region, inner: set[int]) -> int:
    """Return the bytes of a region's buffers, those of `inner` left out: they are no memory."""
    reads = {value.access for value in region.values if value.access is not None and value.access.buffer not in inner}
    writes = {store.access for store in region.stores}
    return _touched(region, reads) + _touched(region, writes)


def _touched(region: Region, accesses: set[Access]) -> int:
    counted: dict[int, int] = {}
    for access in accesses:
        pairs = zip(region.domain, access.strides, strict=True)
        counted[access.buffer] = counted.get(access.buffer, 0) + math.prod(n for n, stride in pairs if stride)
    return sum(
        min(count, region.buffers[k].elements) * ITEM_BYTES[region.buffers[k].dtype] for k, count in counted.items()
    )
