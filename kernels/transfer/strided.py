"""Gather and scatter of tensors that are not contiguous: sliced, transposed, permuted, of up to four axes.

The arena holds each tensor contiguous, in the order of its axes. A unit is 16 bytes of the arena; where they are
neighbours in the tensor too, and aligned, they move by one 128-bit access, else element by element. A transposed
tensor is read across its grain, which a device does at a part of its bandwidth: contiguous tensors go to
kernels/transfer/gather.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.cuda import launch as cuda_launch
from kernels.cuda.kernel import THREADS_PER_BLOCK, KernelSource
from kernels.transfer import segment_table
from kernels.transfer.segment_kernel import fill_in, tiled_kernel
from kernels.transfer.segment_launch import SegmentLauncher, memory_buffer
from kernels.transfer.segment_table import HEADER, ROW, SegmentError, Table

AXES = 4
UNIT_BYTES = 16
UNROLL = 2
ITEM_BYTES = (1, 2, 4, 8)
LAYOUT = 8  # behind the end row, for each segment: bytes of an element, the inner extents, the strides in bytes
_MOST_ELEMENTS = 2**31 - 1  # indices are divided as 32-bit numbers

# `strided` and `dense` are the tensor's and the arena's end of the segment, `place` the tensor's byte of an element.
_UNIT = f"""layout = {HEADER} + {ROW} * (segments + 1) + {LAYOUT} * low
item = read_int64(table, layout)
extent1, extent2, extent3 = read_int64(table, layout + 1), read_int64(table, layout + 2), read_int64(table, layout + 3)
stride0, stride1 = read_int64(table, layout + 4), read_int64(table, layout + 5)
stride2, stride3 = read_int64(table, layout + 6), read_int64(table, layout + 7)
byte = 16 * (unit - begin)
count = min(int64(16), extent - byte)
moved = int64(0)
while moved < count:
    rest3 = quotient_uint32(byte + moved, item)
    rest2 = quotient_uint32(rest3, extent3)
    rest1 = quotient_uint32(rest2, extent2)
    rest0 = quotient_uint32(rest1, extent1)
    index3 = rest3 - rest2 * extent3
    place = STRIDED + rest0 * stride0 + (rest1 - rest0 * extent1) * stride1
    place += (rest2 - rest1 * extent2) * stride2 + index3 * stride3
    other = DENSE + byte + moved
    if count == 16 and moved == 0 and stride3 == item and (extent3 - index3) * item >= 16 and place & 15 == 0:
        store_uint32x4(destinations, TO >> 2, read_uint32x4(sources, FROM >> 2))
        moved = int64(16)
    elif item == 4:
        store_uint32(destinations, TO >> 2, read_uint32(sources, FROM >> 2))
    elif item == 8:
        store_int64(destinations, TO >> 3, read_int64(sources, FROM >> 3))
    elif item == 2:
        store_uint16(destinations, TO >> 1, read_uint16(sources, FROM >> 1))
    else:
        store_uint8(destinations, TO, read_uint8(sources, FROM))
    moved += item"""


def _kernel(entry: str, strided: str, dense: str, to: str, origin: str) -> KernelSource:
    unit = fill_in(_UNIT, STRIDED=strided, DENSE=dense, TO=to, FROM=origin)
    return tiled_kernel(entry, UNROLL, "tile_units < 0", "pass", unit)


GATHER = _kernel("gather_strided", "source", "destination", "other", "place")
SCATTER = _kernel("scatter_strided", "destination", "source", "place", "other")


@dataclass(frozen=True, slots=True)
class StridedTensor:
    """A tensor in memory: address (or offset from a base), shape, strides in bytes, bytes of an element."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    item_bytes: int

    @property
    def bytes(self) -> int:
        """Return the bytes of its elements, as they lie in an arena."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.item_bytes

    def layout(self) -> tuple[int, ...]:
        """Return the row that kernels read; neighbouring axes that lie as one are merged first.

        Raises SegmentError for more than four axes that do not merge, and for what no kernel can read.
        """
        axes = self._merged()
        missing = AXES - len(axes)
        extents = [1] * missing + [extent for extent, _ in axes]
        strides = [0] * missing + [stride for _, stride in axes]
        return (self.item_bytes, *extents[1:], *strides)

    def _merged(self) -> list[tuple[int, int]]:
        self._check()
        axes: list[tuple[int, int]] = []
        for extent, stride in zip(self.shape, self.strides, strict=True):
            if extent == 1:
                continue
            if axes and axes[-1][1] == extent * stride:
                axes[-1] = (axes[-1][0] * extent, stride)
            else:
                axes.append((extent, stride))
        if len(axes) > AXES:
            raise SegmentError(f"shape {self.shape} with strides {self.strides} has {len(axes)} axes; {AXES} at most")
        return axes

    def _check(self) -> None:
        if len(self.shape) != len(self.strides):
            raise SegmentError(
                f"shape {self.shape} and strides {self.strides} differ in length; give one stride an axis"
            )
        if self.item_bytes not in ITEM_BYTES:
            raise SegmentError(f"elements of {self.item_bytes} bytes cannot be moved one by one; {ITEM_BYTES} can")
        if any(extent < 0 for extent in self.shape) or self.bytes > _MOST_ELEMENTS:
            raise SegmentError(f"shape {self.shape} is not one of 0 to {_MOST_ELEMENTS} bytes; split the tensor")
        if any(stride < 0 or stride % self.item_bytes for stride in self.strides) or self.address % self.item_bytes:
            raise SegmentError(
                f"strides {self.strides} at {self.address} are no multiples of {self.item_bytes} from 0 on; "
                "make the tensor contiguous first"
            )


@dataclass(frozen=True, slots=True)
class StridedPlan:
    """Which tensors lie where in an arena; offsets are multiples of 16."""

    tensors: tuple[StridedTensor, ...]
    offsets: tuple[int, ...]
    arena_bytes: int

    @classmethod
    def of(cls, tensors: Sequence[StridedTensor]) -> StridedPlan:
        """Return the plan that lays the tensors one behind the other.

        Raises SegmentError for a tensor that cannot be read: see StridedTensor.layout.
        """
        for tensor in tensors:
            tensor.layout()
        offsets, total = segment_table.arena_offsets([tensor.bytes for tensor in tensors])
        return cls(tuple(tensors), offsets, total)

    def gather_table(self) -> Table:
        """Return the table from the tensors (base 0, or what their addresses are offsets from) to the arena."""
        return self._table([tensor.address for tensor in self.tensors], self.offsets)

    @property
    def expanded(self) -> StridedTensor | None:
        """Return the first tensor whose elements share memory, as an expanded one's do: none can be scattered into."""
        return next((tensor for tensor in self.tensors if _shares_memory(tensor)), None)

    def scatter_table(self) -> Table:
        """Return the table from the arena back to the tensors, which may interleave but must not share elements.

        Raises SegmentError for a tensor whose own elements share memory.
        """
        if self.expanded is not None:
            raise SegmentError(
                f"elements of the tensor at {self.expanded.address} share memory; scatter into its storage"
            )
        return self._table(self.offsets, [tensor.address for tensor in self.tensors])

    def _table(self, sources: Sequence[int], destinations: Sequence[int]) -> Table:
        counts = np.array([tensor.bytes for tensor in self.tensors], np.int64)
        columns = (
            segment_table.whole_numbers("the source", sources),
            segment_table.whole_numbers("the destination", destinations),
            counts,
        )
        table = segment_table.build_table(-(-counts // UNIT_BYTES), columns)
        layouts = [tensor.layout() for tensor in self.tensors if tensor.bytes]
        return np.concatenate([table, np.array(layouts, np.int64).reshape(-1)])


class StridedLauncher:
    """Gathers device tensors that are not contiguous into an arena and scatters them back, one launch each."""

    def __init__(self, plan: StridedPlan) -> None:
        self.plan = plan
        self._units_of_block = UNROLL * THREADS_PER_BLOCK
        self._gather = SegmentLauncher(GATHER, plan.gather_table(), self._units_of_block)
        self._scatter: SegmentLauncher | None = None

    def prepare(self) -> None:
        """Return nothing; compile, and upload the tables, as a CUDA graph capture needs it beforehand.

        Of a plan that cannot be scattered the gather alone is prepared.
        """
        self._gather.prepare()
        if self.plan.expanded is None:
            self._back().prepare()

    def gather(self, arena: Any, stream: int) -> None:
        """Return nothing; queue the copies into the arena; arguments as of gather.ArenaLauncher.gather."""
        self._gather.launch(0, self._address(arena, written=True), stream)

    def scatter(self, arena: Any, stream: int) -> None:
        """Return nothing; queue the copies from the arena back to the tensors; refused as by scatter_table."""
        self._back().launch(self._address(arena, written=False), 0, stream)

    def _back(self) -> SegmentLauncher:
        if self._scatter is None:
            self._scatter = SegmentLauncher(SCATTER, self.plan.scatter_table(), self._units_of_block)
        return self._scatter

    def _address(self, arena: Any, written: bool) -> int:
        return cuda_launch.address_of(memory_buffer("arena", self.plan.arena_bytes, written), arena)


def view_of(tensor: StridedTensor, memory: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the tensor's elements in memory that its address is an offset into: the reference of both kernels."""
    dtype = np.dtype(f"u{tensor.item_bytes}")
    end = tensor.address + 1 + sum((e - 1) * s for e, s in zip(tensor.shape, tensor.strides, strict=True))
    if tensor.bytes == 0:
        return np.zeros(tensor.shape, dtype)
    if end - 1 + tensor.item_bytes > memory.size:
        raise SegmentError(f"the tensor at {tensor.address} ends beyond the memory's {memory.size} bytes")
    return np.ndarray(tensor.shape, dtype, memory.data, tensor.address, tensor.strides)


def _shares_memory(tensor: StridedTensor) -> bool:
    """Return whether two elements may have one address: sorted by stride, each axis must step over the one before."""
    reach = tensor.item_bytes
    axes = [(stride, extent) for extent, stride in zip(tensor.shape, tensor.strides, strict=True) if extent > 1]
    for stride, extent in sorted(axes):
        if stride < reach:
            return tensor.bytes > 0
        reach = stride * (extent - 1) + reach
    return False
