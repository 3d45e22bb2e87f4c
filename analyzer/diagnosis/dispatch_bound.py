"""Rule: runs of small ops whose time is the framework's dispatch (or the launch), not their work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from analyzer.diagnosis.calls import Call, calls_of, seconds_between_calls
from analyzer.diagnosis.finding import Finding
from analyzer.measurement import Estimate
from analyzer.run import Run

RULE = "dispatch-bound"
SHORTEST_RUN = 8
"""Fewer ops save too little to be worth a finding."""
LONGEST_GAP = 4
"""Larger ops in a row that do not end a stretch: the matrix products between a recurrent cell's gates."""
WORK_SHARE = 0.25
"""An op is small when its roofline time is below this share of its measured time …"""
LONGEST_SECONDS = 50e-6
"""… and it takes no longer than this: above it, an inefficient kernel is likelier than dispatch."""


def find(run: Run) -> Iterator[Finding]:
    """Yield a finding for each stretch with at least SHORTEST_RUN small ops that do work, in one phase."""
    everything = calls_of(run)
    gap = seconds_between_calls(run, everything)
    calls = [call for call in everything if call.op.self_seconds is not None]
    for phase, group in groupby(calls, key=lambda call: call.op.phase):
        for stretch in _stretches(list(group)):
            if sum(call.kind != "view" for call in stretch) >= SHORTEST_RUN:
                yield _finding(run, phase, stretch, gap)


def _stretches(calls: Sequence[Call]) -> Iterator[list[Call]]:
    """Yield the small ops of each stretch; a stretch ends where more than LONGEST_GAP larger ops stand in a row."""
    stretch: list[Call] = []
    gap = 0
    for call in calls:
        if _is_small(call):
            stretch.append(call)
            gap = 0
            continue
        gap += 1
        if gap > LONGEST_GAP and stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _is_small(call: Call) -> bool:
    return call.seconds <= LONGEST_SECONDS and call.ideal_seconds <= WORK_SHARE * call.seconds


def _finding(run: Run, phase: str, calls: Sequence[Call], gap: float) -> Finding:
    seconds = sum(call.seconds for call in calls)
    work = sum(call.ideal_seconds for call in calls)
    fusable = sum(call.seconds - call.ideal_seconds + gap for call in calls if call.fusable)
    between = gap * len(calls)
    everything = seconds - work + between
    first = calls[0].op
    share = seconds / max(run.step_seconds.median, 1e-12)
    return Finding(
        id=f"{RULE}:{first.index}",
        rule=RULE,
        title=f"{len(calls):,} small ops one after the other in {phase}: "
        f"{_percent(seconds - work, seconds)} of their time is dispatch, not work",
        evidence={
            "ops": len(calls),
            "fusable_ops": sum(call.fusable for call in calls),
            "phase": phase,
            "self_seconds": seconds,
            "between_ops_seconds": between,
            "roofline_seconds": work,
            "mean_seconds_per_op": seconds / len(calls),
            "share_of_step": min(share, 1.0),
            "bytes_moved": sum(call.bytes_moved for call in calls),
            "flops": sum(call.flops for call in calls),
            "first_source": first.source,
        },
        ops=tuple(call.op.index for call in calls),
        # One call a fused group still pays a dispatch: half of what the fusable ops waste is the cautious end.
        estimate=Estimate(
            low=0.5 * fusable,
            mid=0.8 * fusable,
            high=everything,
            unit="s",
            basis="measured self times, and the Python between the ops, less roofline times: low and mid for ops that "
            "fuse, high for all of them",
        ),
        optimizer="" if run.training else "fusion",
    )


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole > 0 else "0 %"
