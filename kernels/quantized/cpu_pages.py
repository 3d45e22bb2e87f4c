"""Large pages for large weights: with small ones a product waits at each, since prefetching ends with a page."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

LARGE_PAGE = 2 << 20
_HUGE, _COLLAPSE = 14, 25
"""Linux's advice that pages should be large, and to make them so now (from 6.1 on)."""


def make_large(address: int, nbytes: int) -> int:
    """Return how many bytes of some memory lie in large pages now, where the system says so; what they hold stays.

    Memory of files, systems without large pages or without room for them are left as they are: 0.
    """
    first = -(-address // LARGE_PAGE) * LARGE_PAGE
    size = (address + nbytes) // LARGE_PAGE * LARGE_PAGE - first
    advise = _advise()
    if size <= 0 or advise is None:
        return 0
    given = [advise(ctypes.c_void_p(first), ctypes.c_size_t(size), advice) for advice in (_HUGE, _COLLAPSE)]
    return size if given[-1] == 0 else 0


@cache
def _advise() -> Any:
    """Return C's madvise, None where there is none."""
    try:
        return ctypes.CDLL(None).madvise
    except (OSError, AttributeError, TypeError):
        return None
