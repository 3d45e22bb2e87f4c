"""The smallest weights become zero, and only the others are stored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optimizers.plan import Refusal
from optimizers.quantization.compressed import SPARSE, CompressedWeight
from optimizers.quantization.methods.importance import importance, misfit
from optimizers.quantization.methods.weight import WeightInputs
from optimizers.quantization.rules import Rule

DEFAULT_SPARSITY = 0.5


def kept_weights(
    values: NDArray[np.float32], sparsity: float, counts: NDArray[np.float64] | None = None
) -> NDArray[np.bool_]:
    """Return which weights [rows, columns] stay: all but the `sparsity` of them whose magnitudes are smallest.

    counts: how much each column counts, [1, columns], the mean square of its inputs: then those of each row go whose
    magnitude times the root of it is smallest; or how much each row counts, [rows, 1], and those go of all rows.
    Source of the score: Sun et al. 2023, arXiv:2306.11695.
    """
    score = np.abs(values)
    if counts is not None:
        score = (score * np.sqrt(counts)).astype(np.float32)
    alike = counts is not None and counts.shape[0] == 1
    rows, columns = (values.shape[0], values.shape[1]) if alike else (1, values.size)
    by_row, kept = score.reshape(rows, columns), np.ones((rows, columns), np.bool_)
    dropped = int(sparsity * columns)
    if dropped:
        np.put_along_axis(kept, np.argpartition(by_row, dropped - 1, axis=1)[:, :dropped], False, axis=1)
    return kept.reshape(values.shape)


def sparse(values: NDArray[np.float32], kept: NDArray[np.bool_]) -> CompressedWeight:
    """Return the kept weights, row by row, with the column of each."""
    rows, columns = values.shape
    starts = np.zeros(rows + 1, np.int64)
    np.cumsum(kept.sum(axis=1), out=starts[1:])
    places = np.nonzero(kept)[1].astype(np.uint16 if columns <= 1 << 16 else np.uint32)
    arrays = {"values": np.ascontiguousarray(values[kept]), "columns": places, "starts": starts}
    return CompressedWeight(SPARSE, (rows, columns), 32, None, arrays)


def pruned(weight: WeightInputs, rule: Rule) -> CompressedWeight | Refusal:
    """Return the weights without the smallest; refuse where values and columns would take more than the weights did."""
    if reason := misfit(weight, rule):
        return Refusal("quantization", reason)
    sparsity = DEFAULT_SPARSITY if rule.sparsity is None else rule.sparsity
    found = sparse(weight.values, kept_weights(weight.values, sparsity, importance(weight, rule)))
    if found.stored_bytes >= weight.values.nbytes:
        return Refusal(
            "quantization",
            f"at a sparsity of {sparsity:g} values and columns take {found.stored_bytes} bytes, "
            f"its weight itself {weight.values.nbytes}; give a higher sparsity",
        )
    return found
