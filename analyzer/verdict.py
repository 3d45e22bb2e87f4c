"""The rule that turns figures into one word: faster, slower, smaller, inconclusive or refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analyzer.accuracy import Accuracy
from analyzer.measurement import Measurement
from analyzer.statistics import blocked_ratio

LEAST_FLOOR = 0.02
"""A difference under 2 % is never called one: fresh builds of the same code differ by as much (docs/experiments.md)."""
LEAST_SAVING = 0.01
"""Memory or size counts as smaller from 1 % on: less is rounding of the allocator."""
DECISIVE = 0.999
"""Confidence at which sampling may end early with a verdict."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Seconds a step of each variant, by block and by round; the three of one round were timed one after the other."""

    before: tuple[tuple[float, ...], ...] = ()
    after: tuple[tuple[float, ...], ...] = ()
    again: tuple[tuple[float, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.before)


@dataclass(frozen=True, slots=True)
class TimeVerdict:
    """speedup = before/after, floor = the baseline against itself, the word, and whether sampling may end with it."""

    speedup: Measurement
    noise_floor: Measurement
    word: str
    settled: bool


NOT_MEASURED = Measurement(math.nan, math.nan, math.nan, 0, "x", "not measured")
NO_TIME = TimeVerdict(NOT_MEASURED, NOT_MEASURED, "unknown", True)
"""Of a candidate that never ran a timed step."""


def flat(blocks: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the rounds of all blocks in one row."""
    return tuple(value for block in blocks for value in block)


def judge_time(blocks: Blocks) -> TimeVerdict:
    """Return the verdict on time: faster or slower only where the speedup's interval lies outside the noise floor.

    The floor is the interval of the baseline against itself, mirrored around 1 and at least 2 % to either side.
    It is settled when the speedup's whole interval lies within 2 % of 1, or the speedup itself does and the floor
    is no wider; or when an interval of 99.9 % lies outside: ending early on the word of a 95 % interval would
    give chance too many tries.
    """
    floor = noise_floor(blocks)
    speedup = blocked_ratio(blocks.before, blocks.after)
    word = _outside(speedup, floor)
    if word == "inconclusive":
        settled = abs(math.log(speedup.median)) <= math.log1p(LEAST_FLOOR)
    else:
        settled = _outside(blocked_ratio(blocks.before, blocks.after, confidence=DECISIVE), floor) == word
    return TimeVerdict(speedup, floor, word, settled)


def noise_floor(blocks: Blocks) -> Measurement:
    """Return the baseline against itself; low and high are mirrored around 1 and at least 2 % away from it."""
    found = blocked_ratio(blocks.before, blocks.again)
    half = max(abs(math.log(found.low)), abs(math.log(found.high)), math.log1p(LEAST_FLOOR))
    return Measurement(found.median, math.exp(-half), math.exp(half), found.samples, "x", found.interval)


def _outside(speedup: Measurement, floor: Measurement) -> str:
    if speedup.low > floor.high:
        return "faster"
    if speedup.high < floor.low:
        return "slower"
    return "inconclusive"


def judge_ratio(ratio: float | None) -> str:
    """Return smaller, larger or equal for an after/before ratio of bytes; unknown where it was not measured."""
    if ratio is None:
        return "unknown"
    if ratio <= 1 - LEAST_SAVING:
        return "smaller"
    return "larger" if ratio >= 1 + LEAST_SAVING else "equal"


def judge(
    time: TimeVerdict,
    memory_ratio: float | None,
    size_ratio: float,
    accuracy: Accuracy,
    *,
    max_slowdown: float = 0.0,
    gate_accuracy: bool = True,
) -> tuple[dict[str, str], str, str]:
    """Return the verdicts {time, memory, size, accuracy}, the one word, and the reason in one line.

    max_slowdown: fraction by which a smaller candidate may be slower.
    """
    verdicts = {
        "time": time.word,
        "memory": judge_ratio(memory_ratio),
        "size": judge_ratio(size_ratio),
        "accuracy": "passed" if accuracy.passed else "failed",
    }
    if not accuracy.passed and (gate_accuracy or time.speedup is NOT_MEASURED):
        return verdicts, "refused", f"refused: {accuracy.reason}"
    shrunk = "smaller" in (verdicts["memory"], verdicts["size"])
    tolerated = time.word != "slower" or time.speedup.median >= 1 / (1 + max_slowdown)
    word = "smaller" if shrunk and tolerated and time.word != "faster" else time.word
    return verdicts, word, f"{word}: {'; '.join(_figures(time, memory_ratio, size_ratio))}; {accuracy.reason}"


def _figures(time: TimeVerdict, memory_ratio: float | None, size_ratio: float) -> tuple[str, ...]:
    speedup, floor = time.speedup, time.noise_floor
    return (
        f"{speedup.median:.3f}x ({speedup.low:.3f} to {speedup.high:.3f})",
        f"noise floor {floor.low:.3f} to {floor.high:.3f}",
        "peak memory not measured" if memory_ratio is None else f"peak memory {memory_ratio:.3f}x",
        f"size {size_ratio:.3f}x",
    )
