"""All rules over one run, ranked by what mending would give back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from analyzer.diagnosis import dispatch_bound, memory_bound
from analyzer.diagnosis.finding import Diagnosis, Finding
from analyzer.identity import content_id
from analyzer.run import Run

Rule = Callable[[Run], Iterator[Finding]]
RULES: tuple[Rule, ...] = (dispatch_bound.find, memory_bound.find)
LEAST_SHARE = 0.005
"""A finding that would give back less than this share of the step is not worth a line."""


def diagnose(run: Run, rules: tuple[Rule, ...] = RULES) -> Diagnosis:
    """Return the findings of `run`, the one with the largest mid estimate first."""
    least = LEAST_SHARE * run.step_seconds.median
    findings = [finding for rule in rules for finding in rule(run) if finding.estimate.mid >= least]
    findings.sort(key=lambda finding: (-finding.estimate.mid, finding.id))
    kept = tuple(findings)
    return Diagnosis(id=content_id("diagnosis", (run.id, kept)), parent=run.id, findings=kept)
