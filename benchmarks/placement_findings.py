"""What the parts of benchmarks.placement share: the metrics' ids, how much is measured, and what has been found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.contract import Missing, Row

LATENCY, STEP, TO_LOSS, INTACT = "latency", "step_seconds", "seconds_to_loss", "intact_deliveries"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: rounds of samples, steps a sample, transfers in all, steps of a training at most."""

    rounds: int
    steps: int
    transfers: int
    most_steps: int


FULL = Effort(15, 5, 100_000, 600)
BRIEF = Effort(5, 3, 2_000, 60)


@dataclass
class Findings:
    """What has been measured so far."""

    rows: list[Row] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def add_missing(self, peer: str, why: str) -> None:
        """Note that a peer was not measured."""
        self.missing.append(Missing(peer, why))
