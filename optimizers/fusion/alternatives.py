"""The ways to compute one region, or a whole program, that were measured against each other, kept or refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optimizers.fusion.timing import Comparison

EAGER = "eager"
KERNEL = "fused"


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way, timed against eager (or, where `against` says so, against another way) on the real inputs.

    name:    what it is, in a word or two: "eager", "fused", "library", "without loops".
    seconds: the median of one call; None where it was never timed, such as one that gave other results.
    ratio:   how much faster than `against`, with its bootstrap 95 % interval over `rounds` rounds; None for that
             way itself.
    reason:  why it is not kept; "" for the one that is.
    """

    name: str
    seconds: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    rounds: int = 0
    kept: bool = False
    reason: str = ""
    against: str = EAGER

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def timed(name: str, comparison: Comparison, kept: bool, reason: str = "", against: str = EAGER) -> Alternative:
    """Return the second way of a comparison as an alternative; `against` names the first."""
    c = comparison
    return Alternative(name, c.second_seconds, c.ratio, c.low, c.high, c.rounds, kept, reason, against)


def two_ways(comparison: Comparison, kept: bool, what: str = "kernel") -> tuple[Alternative, Alternative]:
    """Return eager and the generated `what` of a comparison, of which one is kept."""
    eager_wins = "" if not kept else f"the {what} is faster"
    kernel_wins = "" if kept else "eager is as fast"
    eager = Alternative(EAGER, comparison.first_seconds, rounds=comparison.rounds, kept=not kept, reason=eager_wins)
    return eager, timed(KERNEL, comparison, kept, kernel_wins)
