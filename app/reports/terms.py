"""What the words of a report mean."""

from __future__ import annotations

TERMS = {
    "step": "One forward pass of the workload; in training also the backward pass and the optimizer's update.",
    "quartiles": "A quarter of the steps were faster than the lower one, a quarter slower than the upper one.",
    "p95, p99": "95 % and 99 % of the steps took no longer than this.",
    "self time": "Time in an op itself, without the ops that it calls.",
    "measured": "Read from a clock, a counter or the allocator, on the device named in this report.",
    "predicted": "Calculated before anything was changed, from measured times and a model of the device. No proof.",
    "peak memory": "The highest number of live bytes of the allocator in one step, parameters included.",
    "coverage": "What share of the step this capture explains; the rest is unknown, and not guessed.",
    "dispatch": "What the framework spends on an op before and after its work: checks, shapes, allocation, launch.",
    "roofline time": "The shortest time the device's peaks allow for an op's arithmetic and its memory traffic.",
    "speedup": "Time before over time after: 2× takes half as long. The ratio of medians of interleaved blocks.",
    "95 % interval": "Bootstrap: where the ratio lies in 95 of 100 resamplings of the measured blocks.",
    "noise floor": "The same ratio of the baseline against itself, in the same sitting: what this machine calls equal.",
    "verdict": "Faster or slower only where the whole interval lies outside the noise floor; else inconclusive.",
    "agreement": "Share of outputs whose largest element is at the same place before and after.",
}


def choose_terms(*names: str) -> tuple[tuple[str, str], ...]:
    """Return (term, meaning) for each name."""
    return tuple((name, TERMS[name]) for name in names)
