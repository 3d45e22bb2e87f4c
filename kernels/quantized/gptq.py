"""Codes fitted to a layer's outputs: each column's rounding error is made up for by the columns that come later.

Source: Frantar et al. 2022, arXiv:2210.17323 (GPTQ), with codebooks in place of a uniform grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from kernels.quantized.gptq_steps import refit_rows, round_block
from kernels.quantized.row_tiles import over_rows

BLOCK = 128
DAMPING = 0.01
"""Of the mean of the Hessian's diagonal: what is added to it."""


class GptqError(ValueError):
    """Arguments that cannot be fitted; the message names what was given and what is needed."""


@dataclass(frozen=True, slots=True, eq=False)
class Feedback:
    """How later columns make up for an error: the order in which columns are rounded, and a triangular factor."""

    order: NDArray[np.int64]
    factor: NDArray[np.float32]


def feedback(hessian: NDArray[np.float64], damping: float = DAMPING) -> Feedback:
    """Return the order and factor for a Hessian [columns, columns], x^T x summed over inputs.

    The columns of the largest inputs are rounded first. Raises GptqError for a Hessian that is not square and finite.
    """
    if hessian.ndim != 2 or hessian.shape[0] != hessian.shape[1] or not np.isfinite(hessian).all():
        raise GptqError(f"a Hessian {list(hessian.shape)} is not square, or not finite; calibrate with finite inputs")
    order = np.argsort(-np.diag(hessian), kind="stable")
    return Feedback(order, inverse_factor(hessian[np.ix_(order, order)], damping).astype(np.float32))


def fitted_codes(
    weights: NDArray[np.float32],
    feedback: Feedback,
    centroids: NDArray[np.float32],
    group: int | None = None,
    threads: int = 1,
) -> NDArray[np.uint8]:
    """Return codes [rows, columns] for which the outputs' error, tr(dW H dW^T), is small.

    weights [rows, columns]; centroids [1 or rows, k], or [rows, groups, k] for groups of `group` columns; each codebook
    in order. Columns whose inputs were always zero are rounded to the nearest centroid.
    Raises GptqError where shapes do not go together.
    """
    rows, columns = weights.shape
    books, order, factor = _books(centroids, rows, columns, group), feedback.order, feedback.factor
    if len(order) != columns:
        raise GptqError(f"a Hessian of {len(order)} columns does not go with weights {list(weights.shape)}")
    of_column = (order // (columns if group is None else group)).astype(np.int64)
    left, codes = np.ascontiguousarray(weights[:, order], np.float32), np.empty((rows, columns), np.uint8)
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        errors = _round(left[:, start:stop], factor[start:stop, start:stop], books, of_column[start:stop],
                        codes[:, start:stop], threads)  # fmt: skip
        if stop < columns:
            left[:, stop:] -= errors @ factor[start:stop, stop:]
    found = np.empty_like(codes)
    found[:, order] = codes
    return found


def refitted_centroids(
    weights: NDArray[np.float32],
    hessian: NDArray[np.float64],
    codes: NDArray[np.uint8],
    centroids: NDArray[np.float32],
    threads: int = 1,
) -> NDArray[np.float32]:
    """Return centroids [rows, k], in order, for which the outputs' error is least while the codes stay.

    Codes are no longer those of the nearest centroids; where the order of centroids changes, codes are fitted again.
    """
    scaled = (hessian / max(float(np.diag(hessian).mean()), 1e-300)).astype(np.float32)
    values = np.ascontiguousarray(weights, np.float32)
    targets, found = values @ scaled, centroids.astype(np.float64)
    over_rows(lambda first, last: refit_rows(codes, scaled, targets, found, first, last), len(values), threads)
    return np.sort(found, axis=1).astype(np.float32)


def inverse_factor(hessian: NDArray[np.float64], damping: float = DAMPING) -> NDArray[np.float64]:
    """Return the upper triangular U with U^T U = inverse of the damped Hessian."""
    damped = np.array(hessian, np.float64)
    diagonal = np.diag(damped).copy()
    dead = diagonal <= 0
    mean = float(diagonal.mean())
    damped[np.diag_indices_from(damped)] += damping * mean if mean > 0 else 1.0
    damped[dead, dead] = max(mean, 1.0) if mean > 0 else 1.0
    try:
        factor = scipy.linalg.cho_factor(damped, lower=True)
        inverse = scipy.linalg.cho_solve(factor, np.eye(len(damped)))
        upper: NDArray[np.float64] = scipy.linalg.cholesky(0.5 * (inverse + inverse.T), lower=False)
    except np.linalg.LinAlgError as error:
        raise GptqError(
            f"the Hessian [{len(damped)}, {len(damped)}] has no factor; calibrate with more inputs"
        ) from error
    return upper


def output_error(weights: NDArray[np.float32], fitted: NDArray[np.float32], hessian: NDArray[np.float64]) -> float:
    """Return sqrt(tr(dW H dW^T) / tr(W H W^T)): how far the layer's outputs are off, relative to their size."""
    gap = (fitted - weights).astype(np.float64)
    size = float(np.einsum("rc,rc->", weights @ hessian, weights))
    return float(np.sqrt(max(float(np.einsum("rc,rc->", gap @ hessian, gap)), 0.0) / size)) if size > 0 else 0.0


def _round(
    left: NDArray[np.float32],
    factor: NDArray[np.float32],
    books: NDArray[np.float32],
    of_column: NDArray[np.int64],
    codes: NDArray[np.uint8],
    threads: int,
) -> NDArray[np.float32]:
    block, square = np.ascontiguousarray(left), np.ascontiguousarray(factor)
    found, errors = np.empty(block.shape, np.uint8), np.empty(block.shape, np.float32)
    over_rows(
        lambda first, last: round_block(block, square, books, of_column, found, errors, first, last),
        len(block),
        threads,
    )
    codes[...] = found
    return errors


def _books(centroids: NDArray[np.float32], rows: int, columns: int, group: int | None) -> NDArray[np.float32]:
    """Return codebooks as [rows, groups, k]."""
    groups = 1 if group is None else -(-columns // group)
    wanted = (rows, groups) if group is not None else (rows,)
    if centroids.shape[:-1] != wanted and not (group is None and centroids.shape[:-1] == (1,)):
        raise GptqError(f"centroids {list(centroids.shape)} do not go with {rows} rows and {groups} groups of columns")
    books = np.broadcast_to(centroids.reshape(-1, groups, centroids.shape[-1]), (rows, groups, centroids.shape[-1]))
    return np.ascontiguousarray(books, np.float32)
