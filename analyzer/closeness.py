"""How close a candidate's answers are: kept with every experiment, and read without loading torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

GIVEN = "given by the caller"
"""The reason of a tolerance that whoever asked chose, not the dtype."""


@dataclass(frozen=True, slots=True)
class AccuracyGate:
    """What answers must keep where they are meant to change a little, as in compression; None asks for nothing.

    min_agreement:   least share of equal arg-max (of embeddings: of equal nearest neighbours), 0 to 1; holds where
                     outputs have one.
    min_cosine:      least cosine similarity of an output.
    max_metric_drop: by how much each of the workload's own metrics may fall.
    """

    min_agreement: float | None = None
    min_cosine: float | None = None
    max_metric_drop: float | None = None

    def failures(self, accuracy: Accuracy) -> tuple[str, ...]:
        """Return in words each figure that does not pass; a figure that is NaN does not."""
        return tuple(f"{words}, less than {least}" for words, passed, least in self._figures(accuracy) if not passed)

    def figures(self, accuracy: Accuracy) -> tuple[str, ...]:
        """Return in words each figure that was asked for, with what was asked."""
        return tuple(f"{words}, at least {least}" for words, _, least in self._figures(accuracy))

    def _figures(self, accuracy: Accuracy) -> Iterator[tuple[str, bool, str]]:
        agreement, cosine = accuracy.agreement, accuracy.cosine
        if self.min_agreement is not None and agreement is not None:
            yield f"agreement {agreement:.4g}", agreement >= self.min_agreement, f"{self.min_agreement:g}"
        if self.min_cosine is not None:
            yield f"cosine {cosine:.6g}", cosine >= self.min_cosine, f"{self.min_cosine:g}"
        if self.max_metric_drop is not None:
            for name, before in sorted(accuracy.metric_before.items()):
                after, least = accuracy.metric_after.get(name, math.nan), before - self.max_metric_drop
                yield f"{name} {after:.6g}", after >= least, f"{least:.6g} ({before:.6g} less {self.max_metric_drop:g})"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How far the candidate's outputs are from the baseline's on fresh inputs (float64 arithmetic).

    max_rel = max|a-b| / max|b| of the output where that is largest; an output is one tensor of the result over
    all inputs, for training all losses, and all parameters after N steps (a the candidate, b the baseline).
    agreement = share of equal arg-max along the last axis, of embeddings (unit vectors [rows, size]) of equal nearest
    neighbours; None where outputs have no last axis of 2 or more.
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
    gate: AccuracyGate | None = None
    """What is asked in place of the dtype's tolerance; a tolerance that the caller gave holds beside it."""

    @property
    def passed(self) -> bool:
        """Return whether the candidate may be kept: comparable, special values in place, within tolerance or gate."""
        if self.mismatch or not self.special_values_match:
            return False
        if self.gate is None:
            return self.max_rel <= self.tolerance
        given = self.tolerance_reason == GIVEN
        return not self.gate.failures(self) and (not given or self.max_rel <= self.tolerance)

    @property
    def reason(self) -> str:
        """Return in one line why it passed or not."""
        if self.mismatch:
            return self.mismatch
        if not self.special_values_match:
            return "NaN or infinities stand at other places than in the baseline's outputs"
        relation = "within" if self.max_rel <= self.tolerance else "beyond"
        error = f"largest relative error {self.max_rel:.2g}, {relation} {self.tolerance:.2g} ({self.tolerance_reason})"
        if self.gate is None:
            return error
        figures = self.gate.failures(self) or self.gate.figures(self)
        return "; ".join((*figures, error) if self.tolerance_reason == GIVEN or not figures else figures)
