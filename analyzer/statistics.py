"""Ratios of repeated timings, with bootstrap intervals that respect how the timings were taken."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analyzer.measurement import Measurement

RESAMPLES = 2000
NORMAL_95 = 1.959963984540054
Floats = NDArray[np.float64]


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float], *, seed: int = 0) -> Measurement:
    """Return the ratio of two medians whose samples were taken in the same rounds, with its bootstrap 95 % interval.

    Rounds are resampled as pairs, so what slowed a whole round down cancels.
    Raises ValueError unless both have the same number of samples, at least one, all above 0.
    """
    if len(numerators) != len(denominators) or not numerators:
        raise ValueError(f"{len(numerators)} samples against {len(denominators)}; give as many for both")
    above, below = _positive(numerators), _positive(denominators)
    rounds = np.random.default_rng(seed).integers(0, len(above), size=(RESAMPLES, len(above)))
    ratios = np.median(above[rounds], axis=1) / np.median(below[rounds], axis=1)
    low, high = np.percentile(ratios, (2.5, 97.5))
    median = float(np.median(above) / np.median(below))
    return Measurement(median, min(float(low), median), max(float(high), median), len(above), "x", "bootstrap-95")


def log_ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Floats:
    """Return the logarithm of each round's ratio. Raises ValueError unless there are as many of both, all above 0."""
    if len(numerators) != len(denominators):
        raise ValueError(f"{len(numerators)} samples against {len(denominators)}; give as many for both")
    return np.asarray(np.log(_positive(numerators)) - np.log(_positive(denominators)))


def blocked_ratio(blocks: Sequence[Floats], *, seed: int = 0) -> Measurement:
    """Return the median of all blocks' ratios (given as logarithms), with its bootstrap 95 % interval.

    Blocks are resampled, then ratios within them, since the ratios of a block share its bias. The percentile
    interval of few blocks is too narrow: on the scale of logarithms it is widened to Student's t of as many.
    Raises ValueError for fewer than two blocks.
    """
    if len(blocks) < 2:
        raise ValueError(f"{len(blocks)} blocks say nothing about the spread between blocks; give at least 2")
    centre = float(np.median(np.concatenate(blocks)))
    low, high = np.percentile(_resampled_medians(blocks, seed), (2.5, 97.5))
    wider = widening(len(blocks))
    low, high = centre + min(low - centre, 0.0) * wider, centre + max(high - centre, 0.0) * wider
    count = sum(len(block) for block in blocks)
    return Measurement(math.exp(centre), math.exp(low), math.exp(high), count, "x", "bootstrap-95")


def widening(blocks: int) -> float:
    """Return by how much the bootstrap's 95 % half-width must grow to be that of Student's t with as many blocks."""
    # Imported here: it loads for half a second, which every command would wait for.
    from scipy.special import stdtrit

    quantile = float(stdtrit(blocks - 1, 0.975))
    return quantile / NORMAL_95 * math.sqrt(blocks / (blocks - 1))


def _positive(values: Sequence[float]) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.all(array > 0):
        raise ValueError("a ratio needs samples above 0")
    return array


def _resampled_medians(blocks: Sequence[Floats], seed: int) -> Floats:
    """Return the medians of RESAMPLES draws of whole blocks, of each of which rounds are drawn anew."""
    generator = np.random.default_rng(seed)
    chosen = generator.integers(0, len(blocks), size=(RESAMPLES, len(blocks)))
    lengths = np.array([len(block) for block in blocks])
    width = int(lengths.max())
    padded = np.full((len(blocks), width), np.nan)
    for row, block in zip(padded, blocks, strict=True):
        row[: len(block)] = block
    positions = (generator.random((RESAMPLES, len(blocks), width)) * lengths[chosen][..., None]).astype(np.intp)
    drawn = padded[chosen[..., None], positions]
    if int(lengths.min()) == width:
        return np.asarray(np.median(drawn.reshape(RESAMPLES, -1), axis=1))
    drawn[np.arange(width) >= lengths[chosen][..., None]] = np.nan
    return np.asarray(np.nanmedian(drawn.reshape(RESAMPLES, -1), axis=1))
