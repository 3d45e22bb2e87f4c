"""Two stored runs beside each other: figures, circumstances, and the ops that came, went or changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from analyzer.run import Run
from analyzer.rundiff import OpDifference, RunDifference, diff_runs
from app.jobs.job import LOCAL
from app.store import Entry
from app.units import MISSING, digits, mebibytes, milliseconds, plural, ratio
from app.workloads import place_name

Change = Literal["added", "removed", "changed"]
MOST_OPS = 400


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of both runs; change: after over before as a factor, in words. better: "good", "bad" or ""."""

    label: str
    before: str
    after: str
    change: str
    better: str = ""


@dataclass(frozen=True, slots=True)
class StoredComparison:
    """What the stored values say. They are of two sittings: no verdict follows from them."""

    lines: tuple[Line, ...]
    unlike: tuple[tuple[str, str, str], ...]
    """(what, before, after): circumstances that differ, so that times do not compare."""
    ops: tuple[dict[str, Any], ...]
    counts: tuple[tuple[Change, int], ...]


def compare_stored(before: Run, after: Run) -> StoredComparison:
    """Return what the stored values of both say."""
    difference = diff_runs(before, after)
    return StoredComparison(
        lines=_lines(before, after),
        unlike=_unlike(before, after),
        ops=tuple(_op_rows(difference))[:MOST_OPS],
        counts=(
            ("added", len(difference.added)),
            ("removed", len(difference.removed)),
            ("changed", len(difference.changed)),
        ),
    )


def _lines(before: Run, after: Run) -> tuple[Line, ...]:
    a, b = before.step_seconds, after.step_seconds
    return (
        _line("Step time, median", a.median, b.median, milliseconds),
        Line("Quartiles", _span(a.low, a.high), _span(b.low, b.high), ""),
        _line("p95", a.p95, b.p95, milliseconds),
        _line("p99", a.p99, b.p99, milliseconds),
        Line("Throughput", f"{digits(before.throughput)}/s", f"{digits(after.throughput)}/s", ""),
        _line("Peak memory", before.memory.peak_bytes, after.memory.peak_bytes, mebibytes),
        Line("Ops", f"{len(before.graph.ops):,}", f"{len(after.graph.ops):,}", ""),
        Line("Steps timed", f"{a.samples:,}", f"{b.samples:,}", ""),
    )


def _line(label: str, before: float, after: float, words: Any) -> Line:
    factor = after / before if before else None
    change = MISSING if factor is None else "the same" if factor == 1 else f"{ratio(factor)} of before"
    return Line(label, words(before), words(after), change)


def _span(low: float, high: float) -> str:
    return f"{milliseconds(low)} to {milliseconds(high)}"


def _unlike(before: Run, after: Run) -> tuple[tuple[str, str, str], ...]:
    pairs = [
        ("device", before.device.name, after.device.name),
        ("threads", str(before.threads), str(after.threads)),
        ("mode", _mode(before), _mode(after)),
    ]
    first, second = before.environment.as_dict(), after.environment.as_dict()
    pairs += [(name.replace("_", " "), _text(first[name]), _text(second[name])) for name in first]
    return tuple(pair for pair in pairs if pair[1] != pair[2])


def _mode(run: Run) -> str:
    return "training" if run.training else "inference"


def _text(value: object) -> str:
    words = ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value or "")
    return words or "none"


def _op_rows(difference: RunDifference) -> Iterable[dict[str, Any]]:
    found: list[tuple[Change, OpDifference]] = [
        *(("added", item) for item in difference.added),
        *(("removed", item) for item in difference.removed),
        *(("changed", item) for item in difference.changed),
    ]
    found.sort(key=lambda pair: -abs(pair[1].seconds_after - pair[1].seconds_before))
    for position, (change, item) in enumerate(found):
        gain = item.seconds_after - item.seconds_before
        yield {
            "id": str(position),
            "change": change,
            "name": item.name,
            "scope": item.scope,
            "calls": f"{item.calls_before:,} → {item.calls_after:,}",
            "before": item.seconds_before,
            "before_words": milliseconds(item.seconds_before) if item.calls_before else MISSING,
            "after": item.seconds_after,
            "after_words": milliseconds(item.seconds_after) if item.calls_after else MISSING,
            "gain": gain,
            "gain_words": f"{'+' if gain > 0 else '−' if gain < 0 else ''}{milliseconds(abs(gain))}",
        }


def counts_words(counts: Iterable[tuple[Change, int]]) -> str:
    """Return "35 kinds of op changed, none came or went."; a kind is a name in a module."""
    given = dict(counts)
    if not any(given.values()):
        return "The same ops in the same modules, as often, their times within their quartiles."
    came, went = given["added"], given["removed"]
    moved = f"{came:,} came, {went:,} went" if came or went else "none came or went"
    return f"{plural(given['changed'], 'kind')} of op changed, {moved}."


def compare_needs(before: Entry, after: Entry) -> dict[str, Any] | str:
    """Return the `needs` of a job that measures both anew; in words why there can be none."""
    first, second = (str(entry.summary.get("place", LOCAL)) for entry in (before, after))
    if first == second:
        return {"place": first}
    return (
        f"{before.name} was captured on {place_name(before)}, {after.name} on {place_name(after)}: "
        "both can be measured anew only on one machine. Capture one of them there."
    )
