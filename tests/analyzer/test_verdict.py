from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from analyzer import statistics
from analyzer.accuracy import Accuracy
from analyzer.measurement import Measurement
from analyzer.verdict import NO_TIME, Blocks, TimeVerdict, judge, judge_ratio, judge_time, noise_floor
from tests.analyzer.timings import BUSY, MOODY, QUIET, SHARED, Machine, word_on

EXACT = Accuracy(0.0, 0.0, 1.0, 1.0, 3, 1e-5, "float32", {}, {}, True)
WRONG = dataclasses.replace(EXACT, max_rel=0.3)
STEADY = Machine()


def timed(word: str, speedup: float = 1.0) -> TimeVerdict:
    return TimeVerdict(Measurement(speedup, speedup, speedup, 30, "x"), Measurement(1.0, 0.98, 1.02, 30, "x"), word)


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of experiments need not know their intervals to the last digit."""
    monkeypatch.setattr(statistics, "RESAMPLES", 400)


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize(("machine", "seed"), [(QUIET, 1), (SHARED, 2), (BUSY, 3), (MOODY, 4)])
def test_equal_code_is_never_faster_or_slower(machine: Machine, seed: int) -> None:
    draw = np.random.default_rng(seed)
    assert {word_on(machine, draw) for _ in range(150)} == {"inconclusive"}


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize(("machine", "seed"), [(QUIET, 5), (SHARED, 6)])
@pytest.mark.parametrize(("slowdown", "word"), [(1.05, "slower"), (1 / 1.05, "faster")])
def test_five_percent_are_found(machine: Machine, seed: int, slowdown: float, word: str) -> None:
    draw = np.random.default_rng(seed)
    words = [word_on(machine, draw, slowdown) for _ in range(40)]
    assert words.count(word) >= 38


def test_a_difference_inside_the_least_floor_is_inconclusive() -> None:
    assert judge_time(STEADY.sitting(np.random.default_rng(0), 6, slowdown=1.015)).word == "inconclusive"


def test_the_floor_is_at_least_two_percent_to_either_side() -> None:
    floor = noise_floor(STEADY.sitting(np.random.default_rng(0), 6))
    assert (floor.low, floor.median, floor.high) == (pytest.approx(1 / 1.02), 1.0, pytest.approx(1.02))


def test_a_floor_of_two_unlike_baselines_covers_their_difference() -> None:
    blocks = STEADY.sitting(np.random.default_rng(0), 6, slowdown=1.3)
    swapped = Blocks(blocks.before, blocks.again, blocks.after, blocks.sittings)
    assert noise_floor(swapped).low <= 1 / 1.299
    assert judge_time(swapped).word == "inconclusive"


def test_a_difference_that_fresh_processes_do_not_show_is_inconclusive() -> None:
    draw = np.random.default_rng(0)
    verdict = judge_time(STEADY.sitting(draw, 12, slowdown=1.4) + STEADY.sitting(draw, 3))
    assert (verdict.word, verdict.why) == ("inconclusive", "slower in one sitting, but not again in fresh processes")


def test_a_difference_that_fresh_processes_show_is_confirmed() -> None:
    draw = np.random.default_rng(0)
    assert judge_time(STEADY.sitting(draw, 6, slowdown=1.4) + STEADY.sitting(draw, 3, slowdown=1.4)).word == "slower"


@pytest.mark.parametrize(("ratio", "word"), [(0.5, "smaller"), (0.995, "equal"), (1.2, "larger"), (None, "unknown")])
def test_a_ratio_of_bytes_is_one_word(ratio: float | None, word: str) -> None:
    assert judge_ratio(ratio) == word


@pytest.mark.parametrize(
    ("time", "memory", "size", "word"),
    [
        (timed("faster", 2.0), 1.0, 1.0, "faster"),
        (timed("faster", 2.0), 0.5, 0.5, "faster"),
        (timed("inconclusive"), 0.5, 1.0, "smaller"),
        (timed("inconclusive"), None, 0.25, "smaller"),
        (timed("inconclusive"), 1.0, 1.0, "inconclusive"),
        (timed("slower", 0.5), 0.5, 0.5, "slower"),
        (timed("slower", 0.95), 0.5, 0.5, "smaller"),
        (timed("slower", 0.95), 1.0, 1.0, "slower"),
    ],
)
def test_one_word_follows_from_time_memory_and_size(
    time: TimeVerdict, memory: float | None, size: float, word: str
) -> None:
    verdicts, found, reason = judge(time, memory, size, EXACT, max_slowdown=0.1)
    assert (found, verdicts["time"], verdicts["accuracy"]) == (word, time.word, "passed")
    assert reason.startswith(f"{word}: {time.speedup.median:.3f}x")


def test_wrong_outputs_are_refused_however_fast() -> None:
    verdicts, word, reason = judge(timed("faster", 9.0), 0.1, 0.1, WRONG)
    assert (word, verdicts["accuracy"]) == ("refused", "failed")
    assert "0.3, beyond 1e-05" in reason


def test_two_workloads_in_their_own_right_may_differ_in_their_outputs() -> None:
    assert judge(timed("faster", 2.0), 1.0, 1.0, WRONG, gate_accuracy=False)[1] == "faster"


def test_a_candidate_that_never_ran_is_refused() -> None:
    failed = dataclasses.replace(WRONG, mismatch="candidate died")
    assert judge(NO_TIME, None, float("nan"), failed, gate_accuracy=False)[1:] == ("refused", "refused: candidate died")
