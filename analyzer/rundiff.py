"""Two runs side by side: which kinds of op, in which module, came, went or changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from analyzer.measurement import Measurement
from analyzer.run import Run

SMALLEST_CHANGE = 0.05
"""Two times nearer than this share of the longer one are called unchanged, whatever their quartiles."""


@dataclass(frozen=True, slots=True)
class OpDifference:
    """All ops of one name in one module: calls and self seconds a step, before and after (0 where there are none)."""

    name: str
    scope: str
    calls_before: int
    calls_after: int
    seconds_before: float
    seconds_after: float

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class RunDifference:
    """Differences between two runs, the largest change of time first. No op of either run is left out unsaid:
    what is in none of the lists is in both, as often, and takes the same time within its quartiles.
    """

    added: tuple[OpDifference, ...]
    removed: tuple[OpDifference, ...]
    changed: tuple[OpDifference, ...]


@dataclass(slots=True)
class _Total:
    calls: int = 0
    median: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def add(self, time: Measurement | None) -> None:
        self.calls += 1
        if time is not None:
            self.median += time.median
            self.low += time.low
            self.high += time.high


def diff_runs(before: Run, after: Run) -> RunDifference:
    """Return how the ops of `after` differ from those of `before`, matched by name and module."""
    old, new = _totals(before), _totals(after)
    everywhere = {key: _difference(key, old.get(key), new.get(key)) for key in {*old, *new}}
    return RunDifference(
        added=_ordered(everywhere[key] for key in new.keys() - old.keys()),
        removed=_ordered(everywhere[key] for key in old.keys() - new.keys()),
        changed=_ordered(everywhere[key] for key in old.keys() & new.keys() if _differ(old[key], new[key])),
    )


def _totals(run: Run) -> dict[tuple[str, str], _Total]:
    totals: dict[tuple[str, str], _Total] = defaultdict(_Total)
    for op in run.graph.ops:
        totals[op.name, op.scope].add(op.self_seconds)
    return dict(totals)


def _difference(key: tuple[str, str], old: _Total | None, new: _Total | None) -> OpDifference:
    before, after = old or _Total(), new or _Total()
    return OpDifference(*key, before.calls, after.calls, before.median, after.median)


def _differ(old: _Total, new: _Total) -> bool:
    if old.calls != new.calls:
        return True
    apart = old.high < new.low or new.high < old.low
    return apart and abs(old.median - new.median) > SMALLEST_CHANGE * max(old.median, new.median)


def _ordered(differences: Iterable[OpDifference]) -> tuple[OpDifference, ...]:
    return tuple(
        sorted(differences, key=lambda item: (-abs(item.seconds_after - item.seconds_before), item.scope, item.name))
    )
