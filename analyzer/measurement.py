"""Measured and estimated quantities: two types, so that neither can be shown as the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Measurement:
    """A quantity that was measured: the median of `samples` values, and an interval around it.

    `interval` names what low and high are: "quartiles" of the samples, or the "bootstrap-95"
    confidence interval of the median (or of a ratio of medians).
    """

    median: float
    low: float
    high: float
    samples: int
    unit: str
    interval: str = "quartiles"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {
            "median": self.median,
            "low": self.low,
            "high": self.high,
            "samples": self.samples,
            "unit": self.unit,
            "interval": self.interval,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Measurement:
        """Return the Measurement that `as_dict` wrote."""
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A quantity that was predicted or simulated, never measured; `basis` says from what."""

    low: float
    mid: float
    high: float
    unit: str
    basis: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mid) and self.low <= self.mid <= self.high):
            raise ValueError(f"estimate {self.low} <= {self.mid} <= {self.high} does not hold")

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {"low": self.low, "mid": self.mid, "high": self.high, "unit": self.unit, "basis": self.basis}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Estimate:
        """Return the Estimate that `as_dict` wrote."""
        return cls(**fields)


def measure_quartiles(values: Sequence[float], unit: str) -> Measurement:
    """Return the median of `values` with their quartiles. Raises ValueError if there are none."""
    if not values:
        raise ValueError("no values to summarise")
    low, median, high = (float(q) for q in np.percentile(np.asarray(values, dtype=np.float64), (25, 50, 75)))
    return Measurement(median, low, high, len(values), unit)
