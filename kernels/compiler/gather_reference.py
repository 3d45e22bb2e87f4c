"""A NumPy interpreter of gathers: the oracle that their printer is tested against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from kernels.compiler.gather_ir import GatherKernel
from kernels.compiler.gather_print import OUT_OF_RANGE

Array = np.ndarray[Any, np.dtype[Any]]


def evaluate_gather(kernel: GatherKernel, arrays: Sequence[Array], exact: bool = False) -> None:
    """Return nothing; store the rows into the last of `arrays`, one flat array for each buffer.

    exact has no effect: nothing is computed. Raises IndexError for an index that is no row of the table.
    """
    index, table, out = arrays
    wanted = _window(index, kernel.extents, kernel.index)
    if ((wanted < 0) | (wanted >= kernel.rows)).any():
        raise IndexError(OUT_OF_RANGE)
    rows = _window(table, (kernel.rows, kernel.columns), kernel.table)
    _window(out, (*kernel.extents, kernel.columns), kernel.out)[...] = rows[wanted]


def _window(array: Array, shape: Sequence[int], strides: Sequence[int]) -> Array:
    return as_strided(array, shape, [stride * array.itemsize for stride in strides])
