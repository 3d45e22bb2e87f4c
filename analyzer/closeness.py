"""How close a candidate's answers are: kept with every experiment, and read without loading torch."""

from __future__ import annotations

from dataclasses import dataclass

GIVEN = "given by the caller"
"""The reason of a tolerance that whoever asked chose, not the dtype."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How far the candidate's outputs are from the baseline's on fresh inputs (float64 arithmetic).

    max_rel = max|a-b| / max|b| of the output where that is largest; an output is one tensor of the result over
    all inputs, for training all losses, and all parameters after N steps (a the candidate, b the baseline).
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
    mismatch: str = ""
    """Why the outputs cannot be compared (other shapes, another number of them); "" if they can."""

    @property
    def passed(self) -> bool:
        """Return whether the candidate may be kept: comparable, special values in place, within the tolerance."""
        return not self.mismatch and self.special_values_match and self.max_rel <= self.tolerance

    @property
    def reason(self) -> str:
        """Return in one line why it passed or not."""
        if self.mismatch:
            return self.mismatch
        if not self.special_values_match:
            return "NaN or infinities stand at other places than in the baseline's outputs"
        relation = "within" if self.passed else "beyond"
        return f"largest relative error {self.max_rel:.2g}, {relation} {self.tolerance:.2g} ({self.tolerance_reason})"
