"""Copies of many segments on the host, by one call: what the gather kernel does on a device, for host memory.

The call holds no Python lock while it copies. Parts of one copy, given to several threads, have equal numbers of bytes
whatever the segments' sizes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.transfer.segment_table import HEADER, ROW, SegmentError, Table

UNIT_BYTES = 16  # of the table: kernels.transfer.gather.copy_table


def copy_on_host(table: Table, sources: int, destinations: int, part: int = 0, parts: int = 1) -> None:
    """Return nothing; copy the given one of `parts` equal parts of what the table says (gather.copy_table).

    sources, destinations: addresses of the bases in host memory; 0 where the table itself holds addresses.
    Raises SegmentError for a part that does not exist.
    """
    if not 0 <= part < parts:
        raise SegmentError(f"part {part} of {parts} does not exist; give one from 0 to {parts - 1}")
    units = int(table[1])
    if units:
        _compiled()(table, sources, destinations, units * part // parts, units * (part + 1) // parts)


@functools.cache
def _compiled() -> Callable[..., None]:
    from numba import njit, types
    from numba.core import cgutils
    from numba.extending import intrinsic

    code: Any = cgutils  # untyped

    def memory_copy(typing_context: Any, destination: Any, source: Any, count: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointers = [builder.inttoptr(address, code.voidptr_t) for address in arguments[:2]]
            code.raw_memcpy(builder, pointers[0], pointers[1], arguments[2], itemsize=1, align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), emit

    copy_bytes: Any = intrinsic(memory_copy)

    @njit("void(int64[::1], int64, int64, int64, int64)", nogil=True)
    def copy_units(table, sources, destinations, first, last):  # type: ignore[no-untyped-def]
        low, high = np.int64(0), table[0]
        while high - low > 1:
            middle = (low + high) >> 1
            if table[HEADER + ROW * middle] <= first:
                low = middle
            else:
                high = middle
        while low < table[0] and table[HEADER + ROW * low] < last:
            row = HEADER + ROW * low
            begin, source, destination, extent = table[row], table[row + 1], table[row + 2], table[row + 3]
            grid = destination // UNIT_BYTES * UNIT_BYTES - UNIT_BYTES * begin
            from_byte = max(destination, grid + UNIT_BYTES * first)
            to_byte = min(destination + extent, grid + UNIT_BYTES * last)
            copy_bytes(destinations + from_byte, sources + source + from_byte - destination, to_byte - from_byte)
            low += 1

    compiled: Callable[..., None] = copy_units
    return compiled
