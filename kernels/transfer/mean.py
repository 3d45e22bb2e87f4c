"""The scaled sum of arrays, written to several places in one pass: what an all-reduce does where memory is shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from kernels.compiler.intrinsics import (
    load_float32,
    load_float64,
    stack,
    store_float32,
    store_float64,
)

types: Any = numba.types
BLOCK = 1024
"""Elements summed at a time: the sum stays in the first-level cache until it is written everywhere."""
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "boundscheck": False}


@numba.njit("void(int64[::1], int64[::1], int64, float32)", **_OPTIONS)
def _sum_float32(sources: Any, destinations: Any, count: Any, scale: Any) -> Any:
    block = stack(4096)
    for begin in range(0, count, BLOCK):
        size = min(BLOCK, count - begin)
        for i in range(size):
            store_float32(block, i, load_float32(sources[0], begin + i, 1) * scale, 0)
        for place in sources[1:]:
            for i in range(size):
                store_float32(block, i, load_float32(block, i, 0) + load_float32(place, begin + i, 1) * scale, 0)
        for place in destinations:
            for i in range(size):
                store_float32(place, begin + i, load_float32(block, i, 0), 1)


@numba.njit("void(int64[::1], int64[::1], int64, float64)", **_OPTIONS)
def _sum_float64(sources: Any, destinations: Any, count: Any, scale: Any) -> Any:
    block = stack(8192)
    for begin in range(0, count, BLOCK):
        size = min(BLOCK, count - begin)
        for i in range(size):
            store_float64(block, i, load_float64(sources[0], begin + i, 1) * scale, 0)
        for place in sources[1:]:
            for i in range(size):
                store_float64(block, i, load_float64(block, i, 0) + load_float64(place, begin + i, 1) * scale, 0)
        for place in destinations:
            for i in range(size):
                store_float64(place, begin + i, load_float64(block, i, 0), 1)


def scaled_sum(dtype: str, sources: Sequence[int], destinations: Sequence[int], count: int, scale: float) -> None:
    """Return nothing; write sum(source * scale) over the sources, in their order, to each destination.

    sources, destinations: addresses of `count` elements each; a destination may be a source.
    dtype: "float32" or "float64"; every product and every sum is rounded in it.
    """
    entry, kind = (_sum_float32, np.float32) if dtype == "float32" else (_sum_float64, np.float64)
    entry(np.array(sources, np.int64), np.array(destinations, np.int64), count, kind(scale))


def reference(sources: Sequence[NDArray[Any]], scale: float) -> NDArray[Any]:
    """Return the scaled sum as numpy makes it, in the sources' dtype and order."""
    kind = sources[0].dtype.type
    total = sources[0] * kind(scale)
    for source in sources[1:]:
        total = total + source * kind(scale)
    return np.asarray(total)
