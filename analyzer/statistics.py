"""Ratios of repeated timings, with bootstrap intervals that respect how the timings were taken."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

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


def blocked_ratio(
    numerators: Sequence[Sequence[float]],
    denominators: Sequence[Sequence[float]],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Measurement:
    """Return the median, over all rounds of all blocks, of numerator / denominator, with a bootstrap interval.

    numerators[b][r] and denominators[b][r] were timed one right after the other, in round r of block b.
    Blocks are resampled, then rounds within them, since the rounds of a block share its bias. The percentile
    interval of few blocks is too narrow; on the scale of logarithms it is widened to Student's t of as many.
    Raises ValueError unless both have the same shape, with at least two blocks, all above 0.
    """
    blocks = [
        np.log(_positive(above)) - np.log(_positive(below))
        for above, below in zip(numerators, denominators, strict=True)
    ]
    if len(blocks) < 2:
        raise ValueError(f"{len(blocks)} blocks say nothing about the spread between blocks; give at least 2")
    centre = float(np.median(np.concatenate(blocks)))
    low, high = np.percentile(_resampled_medians(blocks, seed), (2.5, 97.5))
    wider = widening(len(blocks), confidence)
    low, high = centre + (min(low, centre) - centre) * wider, centre + (max(high, centre) - centre) * wider
    rounds = sum(len(block) for block in blocks)
    name = f"bootstrap-{100 * confidence:g}"
    return Measurement(math.exp(centre), math.exp(low), math.exp(high), rounds, "x", name)


def widening(blocks: int, confidence: float = 0.95) -> float:
    """Return by how much the bootstrap's 95 % half-width must grow to be that of Student's t with as many blocks."""
    quantile = float(stdtrit(blocks - 1, 0.5 + confidence / 2))
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
