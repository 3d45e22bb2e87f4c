"""Weights and the codebooks that they share: values from codes, and gradients of the shared values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.quantized.codebook_steps import look_up_rows, sum_by_code
from kernels.quantized.row_tiles import over_rows


class CodebookError(ValueError):
    """Codes and codebooks that do not go together; the message names what was given."""


def looked_up(
    codes: NDArray[np.uint8], centroids: NDArray[np.float32], group: int | None = None, threads: int = 1
) -> NDArray[np.float32]:
    """Return the weights [rows, columns] of codes; centroids [1 or rows, k], or [rows, groups, k].

    Raises CodebookError where the shapes do not go together or a code has no centroid.
    """
    books, size = _books(codes, centroids, group)
    if codes.size and int(codes.max()) >= centroids.shape[-1]:
        raise CodebookError(f"the code {int(codes.max())} has no centroid; a codebook has {centroids.shape[-1]}")
    weights = np.empty(codes.shape, np.float32)
    over_rows(lambda first, last: look_up_rows(codes, books, size, weights, first, last), len(codes), threads)
    return weights


def summed_gradient(
    codes: NDArray[np.uint8], gradient: NDArray[np.float32], centroids: NDArray[np.float32], group: int | None = None
) -> NDArray[np.float32]:
    """Return the gradient of the centroids, shaped as they are: the sum over the weights that share each one.

    Source: Han et al. 2015, arXiv:1510.00149, section 3.
    """
    books, size = _books(codes, centroids, group)
    if gradient.shape != codes.shape:
        raise CodebookError(f"a gradient {list(gradient.shape)} does not go with codes {list(codes.shape)}")
    sums = np.zeros(books.shape, np.float64)
    sum_by_code(codes, gradient, size, sums)
    return sums.reshape(centroids.shape).astype(np.float32)


def _books(
    codes: NDArray[np.uint8], centroids: NDArray[np.float32], group: int | None
) -> tuple[NDArray[np.float32], int]:
    """Return codebooks as [1 or rows, groups, k], and the columns of a group."""
    rows, columns = codes.shape
    size = max(columns, 1) if group is None else group
    groups = max(-(-columns // size), 1)
    shapes: list[tuple[int, ...]] = [(rows, groups)] if group is not None else [(1,), (rows,)]
    if centroids.shape[:-1] not in shapes:
        raise CodebookError(f"centroids {list(centroids.shape)} do not go with codes {list(codes.shape)}")
    return np.ascontiguousarray(centroids).reshape(-1, groups, centroids.shape[-1]), size
