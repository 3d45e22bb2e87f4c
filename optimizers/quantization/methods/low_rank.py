"""A weight as the product of two narrow matrices: the best there are, by singular values."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from optimizers.plan import Refusal
from optimizers.quantization.compressed import LOW_RANK, CompressedWeight
from optimizers.quantization.methods.weight import WeightInputs
from optimizers.quantization.rules import Rule


def factorised(weight: WeightInputs, rule: Rule) -> CompressedWeight | Refusal:
    """Return the weights as left [rows, rank] times right [rank, columns]; refuse where that is no smaller."""
    values = weight.values
    rows, columns = values.shape
    left, strengths, right = scipy.linalg.svd(values.astype(np.float64), full_matrices=False, lapack_driver="gesdd")
    rank = _rank(strengths, rule.rank)
    if rank * (rows + columns) >= rows * columns:
        most = (rows * columns - 1) // (rows + columns)
        kept = float((strengths[:most] ** 2).sum() / max((strengths**2).sum(), 1e-300))
        return Refusal(
            "quantization",
            f"rank {rank} of {min(rows, columns)} would store more than its weight [{rows}, {columns}] itself; "
            f"give a rank of at most {most}, which keeps {kept:.3f} of its energy",
        )
    root = np.sqrt(strengths[:rank])
    factors = {
        "left": np.ascontiguousarray(left[:, :rank] * root, np.float32),
        "right": np.ascontiguousarray(root[:, None] * right[:rank], np.float32),
    }
    return CompressedWeight(LOW_RANK, (rows, columns), 32, None, factors)


def _rank(strengths: NDArray[np.float64], wanted: float) -> int:
    """Return how many singular values are kept: so many, or those that hold so much of the sum of squares."""
    if wanted >= 1:
        return min(int(wanted), len(strengths))
    energy = np.cumsum(strengths**2)
    return int(np.searchsorted(energy, wanted * energy[-1])) + 1
