"""The gather family: many tensors into one arena in one launch, and back (scatter): copies, byte by byte the same.

One kernel does both: it copies segments, and only which end is the arena differs. Its unit is 16 bytes of the
destination on the destination's own 16-byte grid; at the ends of a segment a unit is partial. A source on the same grid
is read by 128-bit loads; one that is not is read by two of them, which are shifted together, so that misaligned tensors
keep wide accesses; no byte outside of a segment is ever read or written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.cuda import launch as cuda_launch
from kernels.cuda.kernel import THREADS_PER_BLOCK
from kernels.transfer import host_copy, segment_table
from kernels.transfer.segment_kernel import fill_in, tiled_kernel
from kernels.transfer.segment_launch import SegmentLauncher, memory_buffer
from kernels.transfer.segment_table import HEADER, ROW, Table

UNIT_BYTES = 16
UNROLL = 4  # units that a thread has in flight at once
# The tile is one segment's, none of its units is partial, and source and destination are on the same 16-byte grid.
_CONDITION = (
    "(source - destination) & 15 == 0 and (destination & -16) + 16 * (first - begin) >= destination "
    "and (destination & -16) + 16 * (first - begin + tile_units) <= destination + extent"
)
_TILE = "\n".join(
    [
        "written = ((destination & -16) >> 2) + 4 * (first - begin + lane)",
        "wanted = written + ((source - destination) >> 2)",
        *(f"v{k} = read_uint32x4(sources, wanted + {4 * k} * width)" for k in range(UNROLL)),
        *(f"store_uint32x4(destinations, written + {4 * k} * width, v{k})" for k in range(UNROLL)),
    ]
)
_UNIT = """start = (destination & -16) + 16 * (unit - begin)
shift = source - destination
misfit = (start + shift) & 15
aligned = start + shift - misfit
from_byte = max(start, destination)
to_byte = min(start + 16, destination + extent)
whole = to_byte - from_byte == 16
if whole and misfit == 0:
    store_uint32x4(destinations, start >> 2, read_uint32x4(sources, aligned >> 2))
elif whole and aligned >= source and aligned + 32 <= source + extent:
    SHIFTED
elif (from_byte | to_byte | shift) & 3 == 0:
    for word in range(4):
        place = start + 4 * word
        if place >= from_byte and place < to_byte:
            store_uint32(destinations, place >> 2, read_uint32(sources, (place + shift) >> 2))
else:
    for place in range(from_byte, to_byte):
        store_uint8(destinations, place, read_uint8(sources, place + shift))"""
# 16 bytes out of 32, by selects and funnel shifts: registers cannot be indexed.
_SHIFTED = "\n".join(
    [
        "w0, w1, w2, w3 = read_uint32x4(sources, aligned >> 2)",
        "w4, w5, w6, w7 = read_uint32x4(sources, (aligned >> 2) + 4)",
        "if misfit & 8 != 0:",
        "    w0, w1, w2, w3, w4, w5 = w2, w3, w4, w5, w6, w7",
        "if misfit & 4 != 0:",
        "    w0, w1, w2, w3, w4 = w1, w2, w3, w4, w5",
        "bits = 8 * (misfit & 3)",
        *(f"u{k} = ((int64(w{k + 1}) << 32 | int64(w{k})) >> bits) & 0xFFFFFFFF" for k in range(4)),
        "store_uint32x4(destinations, start >> 2, (uint32(u0), uint32(u1), uint32(u2), uint32(u3)))",
    ]
)

COPY = tiled_kernel("copy_segments", UNROLL, _CONDITION, _TILE, fill_in(_UNIT, SHIFTED=_SHIFTED))
"""copy_segments(table, base of the sources, base of the destinations).

Sources and destinations are offsets from a base each: 0 on a device, where a table holds addresses.
"""


def copy_table(sources: Sequence[int], destinations: Sequence[int], byte_counts: Sequence[int]) -> Table:
    """Return the table that copies `byte_counts[k]` bytes from `sources[k]` to `destinations[k]`, for each k.

    Sources and destinations are offsets in bytes from the bases that the kernel is given, themselves multiples of 16;
    with the base 0 they are addresses. Sizes may be 0, and nothing else needs to be aligned.
    Raises SegmentError for lists of unequal length, a negative number, and destinations that overlap.
    """
    if not len(sources) == len(destinations) == len(byte_counts):
        lengths = f"{len(sources)} sources, {len(destinations)} destinations and {len(byte_counts)} sizes"
        raise segment_table.SegmentError(f"{lengths}; give one of each for every segment")
    starts = segment_table.whole_numbers("the source", sources)
    targets = segment_table.whole_numbers("the destination", destinations)
    counts = segment_table.whole_numbers("the size", byte_counts)
    segment_table.refuse_overlap(targets, counts)
    units = -(-(targets + counts) // UNIT_BYTES) - targets // UNIT_BYTES
    return segment_table.build_table(np.where(counts > 0, units, 0), (starts, targets, counts))


def reference(table: Table, sources: NDArray[np.uint8], destinations: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what the destinations' bytes are after the copy; the arguments stay as they are."""
    result = destinations.copy()
    for _, source, destination, count in table[HEADER:-ROW].reshape(-1, ROW).tolist():
        result[destination : destination + count] = sources[source : source + count]
    return result


@dataclass(frozen=True, slots=True)
class ArenaPlan:
    """Which tensors lie where in an arena.

    addresses and byte_counts: of the tensors.
    offsets:     of their copies in the arena, multiples of 16.
    arena_bytes: the arena's size; the bytes between the copies are never touched.
    """

    addresses: tuple[int, ...]
    byte_counts: tuple[int, ...]
    offsets: tuple[int, ...]
    arena_bytes: int

    @classmethod
    def of(cls, addresses: Sequence[int], byte_counts: Sequence[int], alignment: int = 16) -> ArenaPlan:
        """Return the plan that lays the tensors one behind the other; raise SegmentError for sizes below 0."""
        offsets, total = segment_table.arena_offsets(byte_counts, alignment)
        return cls(tuple(addresses), tuple(byte_counts), offsets, total)

    def gather_table(self) -> Table:
        """Return the table from addresses (base 0) to the arena (base: its address)."""
        return copy_table(self.addresses, self.offsets, self.byte_counts)

    def scatter_table(self) -> Table:
        """Return the table from the arena (base: its address) back to the addresses (base 0)."""
        return copy_table(self.offsets, self.addresses, self.byte_counts)

    def gather_on_host(self, arena: int, part: int = 0, parts: int = 1) -> None:
        """Return nothing; copy host tensors into the arena at this address; part and parts as of copy_on_host."""
        host_copy.copy_on_host(self.gather_table(), 0, arena, part, parts)

    def scatter_on_host(self, arena: int, part: int = 0, parts: int = 1) -> None:
        """Return nothing; copy the arena at this address back to the host tensors."""
        host_copy.copy_on_host(self.scatter_table(), arena, 0, part, parts)


class ArenaLauncher:
    """Gathers device tensors into an arena and scatters them back, one launch each."""

    def __init__(self, plan: ArenaPlan) -> None:
        self.plan = plan
        units_of_block = UNROLL * THREADS_PER_BLOCK
        self._gather = SegmentLauncher(COPY, plan.gather_table(), units_of_block)
        self._scatter = SegmentLauncher(COPY, plan.scatter_table(), units_of_block)

    def prepare(self) -> None:
        """Return nothing; compile, and upload the tables, as a CUDA graph capture needs it beforehand.

        Raises CudaUnavailable where numba-cuda or a device is missing.
        """
        self._gather.prepare()
        self._scatter.prepare()

    def gather(self, arena: Any, stream: int) -> None:
        """Return nothing; queue the copies into the arena. Keep tensors and arena until they ran.

        arena:  an address, or a contiguous CUDA array of arena_bytes or more; a multiple of 16.
        stream: handle of the stream to launch on; 0 is the default stream.
        Raises ArgumentError for an arena that does not fit, CudaUnavailable without a device.
        """
        self._gather.launch(0, self._address(arena, written=True), stream)

    def scatter(self, arena: Any, stream: int) -> None:
        """Return nothing; queue the copies from the arena back to the tensors; arguments as of `gather`."""
        self._scatter.launch(self._address(arena, written=False), 0, stream)

    def _address(self, arena: Any, written: bool) -> int:
        return cuda_launch.address_of(memory_buffer("arena", self.plan.arena_bytes, written), arena)
