"""What the command line prints of a comparison of two runs."""

from __future__ import annotations

from typing import Any

from analyzer.comparison import Comparison
from analyzer.measurement import Measurement


def comparison_summary(comparison: Comparison) -> dict[str, Any]:
    """Return the command line's JSON."""
    return {
        "verdict": comparison.verdict,
        "reason": comparison.reason,
        "speedup": _triple(comparison.speedup),
        "noise_floor": _triple(comparison.noise_floor),
        "interleaved": comparison.interleaved,
        "experiment": comparison.experiment.id if comparison.experiment else None,
        "ops_added": [item.as_dict() for item in comparison.ops_added],
        "ops_removed": [item.as_dict() for item in comparison.ops_removed],
        "ops_changed": [item.as_dict() for item in comparison.ops_changed],
    }


def _triple(value: Measurement) -> dict[str, Any]:
    return {"median": value.median, "low": value.low, "high": value.high, "interval": value.interval}
