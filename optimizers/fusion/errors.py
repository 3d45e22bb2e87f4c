"""How far computed values are from float64: in units in the last place (ULP), and relative to the largest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NOISE = 1e-13
"""A result whose largest exact value is below this share of the largest of all is rounding noise."""
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Errors:
    """Distances over all floating results of one region.

    values:     how many floating values were compared; those that are NaN or infinite count in `elsewhere` alone.
    max_ulp, p99_ulp, median_ulp: |a-b| over the spacing of the result's dtype at b.
    max_rel:    max|a-b| / max|b|, the largest over the results.
    unequal:    integers and booleans that differ.
    elsewhere:  NaN or infinities that stand where the reference has another value, or the other way round.
    """

    values: int = 0
    max_ulp: float = 0.0
    p99_ulp: float = 0.0
    median_ulp: float = 0.0
    max_rel: float = 0.0
    unequal: int = 0
    elsewhere: int = 0


def errors_of(results: Sequence[Array], references: Sequence[Array]) -> Errors:
    """Return the errors of flat results (float32, float64, integers, bool) against references (float64 where floating).

    Results and references correspond one by one and have equal sizes. A result that is nothing but rounding noise,
    such as the mean of what is left after a mean was taken away, is held against the largest value of all.
    """
    most = largest_of(references)
    steps: list[Array] = []
    max_rel, unequal, elsewhere = 0.0, 0, 0
    for result, reference in zip(results, references, strict=True):
        if result.dtype.kind != "f":
            unequal += int(np.count_nonzero(result != reference))
            continue
        exact = reference.astype(np.float64, copy=False)
        same = np.isfinite(exact) & np.isfinite(result)
        elsewhere += _misplaced(result, exact, same)
        distance = np.abs(result[same].astype(np.float64) - exact[same])
        if not distance.size:
            continue
        sizes = np.abs(exact[same])
        largest = float(sizes.max())
        if largest < NOISE * most:
            largest, sizes = most, np.full_like(sizes, most)
        with np.errstate(over="ignore"):
            spacing = np.spacing(sizes.astype(result.dtype)).astype(np.float64)
        steps.append(distance / np.where(np.isfinite(spacing), spacing, np.inf))
        max_rel = max(max_rel, float(distance.max()) / largest if largest else float(distance.max()))
    if not steps:
        return Errors(unequal=unequal, elsewhere=elsewhere)
    ulp = np.concatenate(steps)
    median, p99 = np.percentile(ulp, (50, 99))
    return Errors(ulp.size, float(ulp.max()), float(p99), float(median), max_rel, unequal, elsewhere)


def largest_of(references: Sequence[Array]) -> float:
    """Return the largest finite magnitude among the floating references, 0.0 if there is none."""
    floating = [np.abs(item[np.isfinite(item)]) for item in references if item.dtype.kind == "f"]
    return max((float(item.max()) for item in floating if item.size), default=0.0)


def _misplaced(result: Array, exact: Array, same: Array) -> int:
    """Return how many values are NaN or infinite on one side and something else on the other."""
    rest = ~same
    if not rest.any():
        return 0
    # A value beyond the dtype's range is infinite in it: that is what rounding the reference gives.
    with np.errstate(over="ignore"):
        rounded = exact[rest].astype(result.dtype)
    found = result[rest]
    return int(np.count_nonzero(~((found == rounded) | (np.isnan(found) & np.isnan(rounded)))))
