"""Interleaved A/B of two Launches: ratio, interval, noise floor, accuracy, verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analyzer.device import Environment
from analyzer.measurement import Measurement

FORMAT_VERSION = 1
VERDICTS = ("faster", "slower", "smaller", "inconclusive", "refused")


@dataclass(frozen=True, slots=True)
class Launch:
    """How one variant runs in a subprocess of its own.

    entry:    "module:function"; called in the subprocess as `function(argument)`, it returns a prepared Workload.
              The baseline's is "analyzer.variant:rebuild_baseline" with a WorkloadReference as a dict.
    argument: plain JSON.
    threads:  intra-op threads of the subprocess.
    """

    name: str
    entry: str
    argument: dict[str, Any]
    threads: int
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How far the candidate's outputs are from the baseline's on fresh inputs (float64 arithmetic).

    max_rel = max|a-b| / max|b| over outputs; for training over losses and parameters after N steps.
    agreement = share of equal arg-max along the last axis; None where outputs have no last axis of 2 or more.
    metrics are the workload's own `evaluate`.
    """

    max_abs: float
    max_rel: float
    cosine: float
    agreement: float | None
    inputs: int
    tolerance: float
    tolerance_reason: str
    metric_before: dict[str, float]
    metric_after: dict[str, float]
    special_values_match: bool
    """NaN and infinities stand at the same places."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """What two Launches measured against each other, and the verdict.

    speedup: before/after time, ratio of medians with its bootstrap 95 % interval.
    noise_floor: the same ratio of the baseline against itself in the same sitting (interval).
    memory_ratio, size_ratio: after/before peak bytes and bytes of parameters and buffers.
    verdicts: {"time", "memory", "size", "accuracy"} -> one word each.
    """

    id: str
    parent: str
    """The Candidate's id (or, for a plain comparison, the Run's)."""
    baseline: Launch
    candidate: Launch
    before_seconds: tuple[float, ...]
    after_seconds: tuple[float, ...]
    again_seconds: tuple[float, ...]
    """The baseline a second time: A against A."""
    speedup: Measurement
    noise_floor: Measurement
    memory_ratio: float | None
    peak_bytes_before: int | None
    peak_bytes_after: int | None
    size_ratio: float
    accuracy: Accuracy
    verdicts: dict[str, str]
    verdict: str
    reason: str
    interleaved: bool
    environment: Environment
    created: str
    notes: tuple[str, ...] = ()
    format_version: int = FORMAT_VERSION
