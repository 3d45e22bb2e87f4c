"""Has the C library give large freed blocks back to the system: moved memory that stays in the heap helps nobody."""

from __future__ import annotations

import contextlib
import ctypes

M_MMAP_THRESHOLD = -3  # malloc.h
LEAST_BYTES = 1 << 20


def return_freed_memory(least_bytes: int = LEAST_BYTES) -> bool:
    """Return whether blocks of `least_bytes` and more now come from the system and go back to it when freed.

    By itself glibc raises that limit, up to 32 MiB, whenever such a block is freed, and what is freed below it stays in
    the heap for the next allocation. Given back, its pages are mapped anew each time: memory for time.
    """
    with contextlib.suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, least_bytes))
    return False
