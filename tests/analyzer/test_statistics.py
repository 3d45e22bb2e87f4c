from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.statistics import blocked_ratio, log_ratios, paired_ratio, widening

positive = st.floats(1e-6, 1e3)


@settings(max_examples=20, deadline=None)
@given(st.lists(positive, min_size=1, max_size=9), st.floats(0.1, 10.0))
def test_a_constant_ratio_is_found_exactly(values: list[float], factor: float) -> None:
    found = paired_ratio([value * factor for value in values], values)
    assert found.median == pytest.approx(factor)
    assert (found.low, found.high) == (pytest.approx(factor), pytest.approx(factor))


def test_what_slows_a_whole_round_down_cancels() -> None:
    rounds = np.random.default_rng(3).uniform(1, 5, size=(6, 7))
    found = blocked_ratio([log_ratios(row * 1.25, row) for row in rounds])
    assert (found.low, found.median, found.high) == (pytest.approx(1.25), pytest.approx(1.25), pytest.approx(1.25))


def test_the_interval_holds_the_true_ratio_nineteen_times_in_twenty() -> None:
    draw = np.random.default_rng(11)
    hits = 0
    for _ in range(150):
        blocks = [draw.normal(0.1, 0.02) + draw.normal(0, 0.03, size=5) for _ in range(6)]
        found = blocked_ratio(blocks)
        hits += found.low <= math.exp(0.1) <= found.high
    assert hits >= 0.9 * 150


def test_one_block_is_not_enough() -> None:
    with pytest.raises(ValueError, match="1 blocks say nothing"):
        blocked_ratio([np.zeros(30)])


def test_blocks_may_have_different_lengths() -> None:
    found = blocked_ratio([np.full(3, 0.5), np.full(7, 0.5), np.full(1, 0.5)])
    assert (found.median, found.samples) == (pytest.approx(math.exp(0.5)), 11)


def test_the_same_samples_give_the_same_interval() -> None:
    blocks = [np.random.default_rng(block).normal(size=4) for block in range(5)]
    assert blocked_ratio(blocks) == blocked_ratio(blocks)


def test_fewer_blocks_widen_the_interval_more() -> None:
    assert widening(3) > widening(5) > widening(50) > 1.0


@pytest.mark.parametrize(("above", "below"), [([1.0], [1.0, 2.0]), ([], []), ([1.0], [0.0]), ([-1.0], [1.0])])
def test_what_is_no_pair_of_timings_is_refused(above: list[float], below: list[float]) -> None:
    with pytest.raises(ValueError, match="samples"):
        paired_ratio(above, below)
    with pytest.raises(ValueError, match="samples"):
        log_ratios(above, below)
