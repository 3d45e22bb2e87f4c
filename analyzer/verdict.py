"""The rule that turns figures into one word: faster, slower, smaller, inconclusive or refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analyzer.closeness import Accuracy
from analyzer.measurement import Measurement
from analyzer.statistics import Floats, blocked_ratio, log_ratios

LEAST_FLOOR = 0.02
"""A difference under 2 % is never called one: fresh builds of the same code differ by as much (docs/experiments.md)."""
LEAST_AGAIN = 0.01
"""What a sitting must show of a difference, at least, to confirm it, and what sampling goes on for."""
LEAST_SAVING = 0.01
"""Memory or size counts as smaller from 1 % on: less is rounding of the allocator."""
NOT_MEASURED = Measurement(math.nan, math.nan, math.nan, 0, "x", "not measured")


@dataclass(frozen=True, slots=True)
class Blocks:
    """Seconds a step of each variant, by block and by round; the three of one round were timed one after the other.

    sittings: how many blocks each sitting has, in order. Every sitting has processes of its own.
    """

    before: tuple[tuple[float, ...], ...] = ()
    after: tuple[tuple[float, ...], ...] = ()
    again: tuple[tuple[float, ...], ...] = ()
    sittings: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.before)

    def __add__(self, other: Blocks) -> Blocks:
        """Return these blocks and then the other's."""
        return Blocks(
            self.before + other.before,
            self.after + other.after,
            self.again + other.again,
            self.sittings + other.sittings,
        )

    def speedups(self) -> list[Floats]:
        """Return each block's logarithms of before/after: two a round, since the baseline runs in two processes."""
        sides = zip(self.before, self.after, self.again, strict=True)
        return [np.concatenate([log_ratios(before, after), log_ratios(again, after)]) for before, after, again in sides]

    def floors(self) -> list[Floats]:
        """Return each block's logarithms of the baseline against itself."""
        return [log_ratios(before, again) for before, again in zip(self.before, self.again, strict=True)]


@dataclass(frozen=True, slots=True)
class TimeVerdict:
    """speedup = before/after, floor = the baseline against itself, the word on it, and why if that needs saying."""

    speedup: Measurement
    noise_floor: Measurement
    word: str
    why: str = ""


NO_TIME = TimeVerdict(NOT_MEASURED, NOT_MEASURED, "unknown")
"""Of a candidate that never ran a timed step."""


def flat(blocks: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the rounds of all blocks in one row."""
    return tuple(value for block in blocks for value in block)


def judge_time(blocks: Blocks) -> TimeVerdict:
    """Return the verdict on time: faster or slower only where the speedup's interval lies outside the noise floor.

    The floor is the interval of the baseline against itself, mirrored around 1 and at least 2 % to either side.
    Where there is more than one sitting, each must show the difference: equal code can differ from process to
    process, for as long as the processes live.
    """
    speedup, floor = blocked_ratio(blocks.speedups()), noise_floor(blocks)
    word = _outside(speedup, floor)
    if word != "inconclusive" and not _is_confirmed(blocks, word):
        return TimeVerdict(speedup, floor, "inconclusive", f"{word} in one sitting, but not again in fresh processes")
    return TimeVerdict(speedup, floor, word)


def is_settled(blocks: Blocks) -> bool:
    """Return whether sampling may end: the word is faster or slower, or the difference found is within 1 %."""
    if abs(float(np.median(np.concatenate(blocks.speedups())))) <= math.log1p(LEAST_AGAIN):
        return True
    return judge_time(blocks).word != "inconclusive"


def noise_floor(blocks: Blocks) -> Measurement:
    """Return the baseline against itself; low and high are mirrored around 1 and at least 2 % away from it."""
    found = blocked_ratio(blocks.floors())
    half = max(abs(math.log(found.low)), abs(math.log(found.high)), math.log1p(LEAST_FLOOR))
    return Measurement(found.median, math.exp(-half), math.exp(half), found.samples, "x", found.interval)


def _is_confirmed(blocks: Blocks, word: str) -> bool:
    """Return whether every sitting shows the difference against both of its baseline's processes."""
    sign = 1.0 if word == "faster" else -1.0
    start = 0
    for count in blocks.sittings:
        part = slice(start, start + count)
        after = flat(blocks.after[part])
        for baseline in (flat(blocks.before[part]), flat(blocks.again[part])):
            if sign * float(np.median(log_ratios(baseline, after))) < math.log1p(LEAST_AGAIN):
                return False
        start += count
    return True


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
        f"noise floor {floor.low:.3f} to {floor.high:.3f}{', ' + time.why if time.why else ''}",
        "peak memory not measured" if memory_ratio is None else f"peak memory {memory_ratio:.3f}x",
        f"size {size_ratio:.3f}x",
    )
