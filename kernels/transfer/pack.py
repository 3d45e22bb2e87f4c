"""The pack family: tensors packed into one staging buffer for a swap, in one launch, and back.

    lossless    any dtype, byte by byte: the gather kernel
    bfloat16    float32 in half the bytes, LOSSY (kernels/transfer/bfloat16.py)
    int8        float32 in little more than a quarter, LOSSY (kernels/transfer/int8.py)
A lossy format is never a default: whoever swaps asks for it by name, and says so wherever its result is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.cuda import launch as cuda_launch
from kernels.cuda.kernel import THREADS_PER_BLOCK, KernelSource
from kernels.transfer import bfloat16 as pack_bfloat16
from kernels.transfer import gather, segment_table
from kernels.transfer import int8 as pack_int8
from kernels.transfer.segment_launch import SegmentLauncher, memory_buffer
from kernels.transfer.segment_table import SegmentError, Table

FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Format:
    """How tensors are packed.

    lossy:           whether what comes back may differ from what went in.
    packed_bytes:    items of a tensor -> the bytes that they become.
    item_bytes:      of one item: 1, any bytes, or 4, float32 elements.
    pack, unpack:    kernels (table, base of the sources, base of the destinations).
    pack_items:      how many items one unit of the pack kernel's table holds; unpack_items the same.
    pack_units:      how many of those units a block takes at once; unpack_units the same.
    """

    name: str
    lossy: bool
    packed_bytes: Callable[[int], int]
    item_bytes: int
    pack: KernelSource
    unpack: KernelSource
    pack_items: int
    unpack_items: int
    pack_units: int
    unpack_units: int


def _same(items: int) -> int:
    return items


_COPIED = gather.UNROLL * THREADS_PER_BLOCK
LOSSLESS = Format(
    "lossless", False, _same, 1, gather.COPY, gather.COPY, gather.UNIT_BYTES, gather.UNIT_BYTES, _COPIED, _COPIED
)
BFLOAT16 = Format(
    name="bfloat16",
    lossy=True,
    packed_bytes=pack_bfloat16.packed_bytes,
    item_bytes=FLOAT32_BYTES,
    pack=pack_bfloat16.PACK,
    unpack=pack_bfloat16.UNPACK,
    pack_items=pack_bfloat16.UNIT_ELEMENTS,
    unpack_items=pack_bfloat16.UNIT_ELEMENTS,
    pack_units=pack_bfloat16.UNROLL * THREADS_PER_BLOCK,
    unpack_units=pack_bfloat16.UNROLL * THREADS_PER_BLOCK,
)
INT8 = Format(
    name="int8",
    lossy=True,
    packed_bytes=pack_int8.packed_bytes,
    item_bytes=FLOAT32_BYTES,
    pack=pack_int8.PACK,
    unpack=pack_int8.UNPACK,
    pack_items=pack_int8.GROUP_ELEMENTS,
    unpack_items=pack_int8.UNPACK_UNIT_ELEMENTS,
    pack_units=THREADS_PER_BLOCK // 32,
    unpack_units=pack_int8.UNPACK_UNROLL * THREADS_PER_BLOCK,
)
FORMATS = {form.name: form for form in (LOSSLESS, BFLOAT16, INT8)}


@dataclass(frozen=True, slots=True)
class PackPlan:
    """Which tensors lie where in a staging buffer.

    addresses and byte_counts: of the tensors, as they are unpacked.
    offsets:       of the packed tensors in the staging buffer, multiples of 16.
    staging_bytes: the staging buffer's size.
    """

    format: Format
    addresses: tuple[int, ...]
    byte_counts: tuple[int, ...]
    offsets: tuple[int, ...]
    staging_bytes: int

    @classmethod
    def of(cls, form: Format, addresses: Sequence[int], byte_counts: Sequence[int]) -> PackPlan:
        """Return the plan that lays the packed tensors one behind the other.

        Raises SegmentError for a negative size and, in a format for float32, for a tensor that is none: its address
        or its size is no multiple of 4.
        """
        if len(addresses) != len(byte_counts):
            raise SegmentError(f"{len(addresses)} addresses for {len(byte_counts)} sizes; give one of each")
        for number, values in enumerate(zip(addresses, byte_counts, strict=True)):
            if any(value % form.item_bytes for value in values):
                address, count = values
                raise SegmentError(
                    f"tensor {number} ({count} bytes at {address}) holds no float32, which {form.name} packs; "
                    f"pack it {LOSSLESS.name}"
                )
        sizes = [count if count < 0 else form.packed_bytes(count // form.item_bytes) for count in byte_counts]
        offsets, total = segment_table.arena_offsets(sizes)
        return cls(form, tuple(addresses), tuple(byte_counts), offsets, total)

    @property
    def lossy(self) -> bool:
        """Return whether what comes back may differ from what was packed."""
        return self.format.lossy

    def pack_table(self) -> Table:
        """Return the table from addresses (base 0) to the staging buffer (base: its address)."""
        return self._table(self.addresses, self.offsets, self.format.pack_items)

    def unpack_table(self) -> Table:
        """Return the table from the staging buffer (base: its address) back to the addresses (base 0)."""
        targets = segment_table.whole_numbers("the destination", self.addresses)
        segment_table.refuse_overlap(targets, np.asarray(self.byte_counts, np.int64))
        return self._table(self.offsets, self.addresses, self.format.unpack_items)

    def _table(self, sources: Sequence[int], destinations: Sequence[int], items_of_unit: int) -> Table:
        if self.format is LOSSLESS:
            return gather.copy_table(sources, destinations, self.byte_counts)
        columns = [
            segment_table.whole_numbers(name, values)
            for name, values in (("the source", sources), ("the destination", destinations))
        ]
        counts = np.asarray(self.byte_counts, np.int64).reshape(-1)
        items = counts // self.format.item_bytes
        return segment_table.build_table(-(-items // items_of_unit), (*columns, items))


class PackLauncher:
    """Packs device tensors into a staging buffer and unpacks them, one launch each."""

    def __init__(self, plan: PackPlan) -> None:
        self.plan = plan
        form = plan.format
        self._pack = SegmentLauncher(form.pack, plan.pack_table(), form.pack_units)
        self._unpack = SegmentLauncher(form.unpack, plan.unpack_table(), form.unpack_units)

    def prepare(self) -> None:
        """Return nothing; compile, and upload the tables, as a CUDA graph capture needs it beforehand.

        Raises CudaUnavailable where numba-cuda or a device is missing.
        """
        self._pack.prepare()
        self._unpack.prepare()

    def pack(self, staging: Any, stream: int) -> None:
        """Return nothing; queue the packing. Keep tensors and staging buffer until it ran.

        staging: an address, or a contiguous CUDA array of staging_bytes or more; a multiple of 16.
        stream:  handle of the stream to launch on; 0 is the default stream.
        Raises ArgumentError for a staging buffer that does not fit, CudaUnavailable without a device.
        """
        self._pack.launch(0, self._address(staging, written=True), stream)

    def unpack(self, staging: Any, stream: int) -> None:
        """Return nothing; queue the way back into the tensors; arguments as of `pack`."""
        self._unpack.launch(self._address(staging, written=False), 0, stream)

    def _address(self, staging: Any, written: bool) -> int:
        return cuda_launch.address_of(memory_buffer("staging", self.plan.staging_bytes, written), staging)
