"""What a rule finds: evidence, what mending it would give back, and who can mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analyzer.measurement import Estimate

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One hot spot.

    id:       stable within the run: rule and the first op it names, such as "dispatch-bound:12".
    title:    one line for people.
    evidence: figures measured in this run, by name, with the unit in the name.
    ops:      indices into Graph.ops that it speaks of.
    estimate: what mending it would give back, in seconds a step (unit "s") or bytes (unit "bytes").
    optimizer: name of the optimizer that answers it; "" when none does yet.
    """

    id: str
    rule: str
    title: str
    evidence: dict[str, Any]
    ops: tuple[int, ...]
    estimate: Estimate
    optimizer: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings of one run, the one that would give back most first."""

    id: str
    parent: str
    """The Run's id."""
    findings: tuple[Finding, ...]
    format_version: int = FORMAT_VERSION
