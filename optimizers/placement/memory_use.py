"""How much of a step is spent on memory: what several workers of one host take from each other.

An op that moves its bytes as fast as one core can copy has a share of 1: two such ops at once share the bandwidth of
the host. One that computes on what its caches hold has a share near 0: another core's work does not slow it down.
"""

from __future__ import annotations

from analyzer.graph import Op
from analyzer.run import Run


def memory_shares(run: Run) -> tuple[tuple[str, float], ...]:
    """Return, for each phase of a step on a CPU, the share of its time that its bytes alone would take.

    Empty where the run's device has no bandwidth that was measured, and for a GPU, whose memory is its own.
    """
    peak = run.device.bytes_per_second
    if run.device.kind != "cpu" or peak is None or peak.value <= 0:
        return ()
    spent: dict[str, float] = {}
    moving: dict[str, float] = {}
    for op in run.graph.ops:
        seconds = _seconds(op)
        spent[op.phase] = spent.get(op.phase, 0.0) + seconds
        moving[op.phase] = moving.get(op.phase, 0.0) + min(op.bytes_moved / peak.value, seconds)
    return tuple((phase, moving[phase] / total) for phase, total in sorted(spent.items()) if total > 0)


def _seconds(op: Op) -> float:
    return 0.0 if op.self_seconds is None else op.self_seconds.median
