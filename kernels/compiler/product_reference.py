"""A NumPy interpreter of products with regions: the oracle that their printer is tested against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from kernels.compiler.product_ir import ProductKernel
from kernels.compiler.reference import evaluate

Array = np.ndarray[Any, np.dtype[Any]]


def evaluate_product(kernel: ProductKernel, arrays: Sequence[Array], exact: bool = False) -> None:
    """Return nothing; store the results into `arrays`, one flat array for each buffer.

    exact: compute in float64; else the sums are rounded to float32 once.
    """
    left, right, *others = arrays
    a = _window(left, (kernel.rows, kernel.depth), kernel.left_strides).astype(np.float64)
    b = _window(right, (kernel.depth, kernel.columns), kernel.right_strides).astype(np.float64)
    with np.errstate(all="ignore"):
        sums = (a @ b).astype(np.float64 if exact else np.float32).ravel()
    evaluate(kernel.region, [*others[: kernel.sums], sums, *others[kernel.sums :]], exact)


def _window(array: Array, shape: tuple[int, int], strides: tuple[int, int]) -> Array:
    return as_strided(array, shape, [stride * array.itemsize for stride in strides])
