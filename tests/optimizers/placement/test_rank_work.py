"""What ranks do more than a process alone, from what calibration measures of it."""

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizers.placement.rank_work import beside_pace, cores_taken, expected_slowest

SECONDS = st.floats(1e-4, 1.0)


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 64])
def test_the_slowest_of_many_is_as_far_above_their_mean_as_in_drawn_numbers(workers):
    pick = random.Random()
    drawn = statistics.mean(max(pick.gauss(0.0, 1.0) for _ in range(workers)) for _ in range(40_000 // workers))
    assert expected_slowest(workers) == pytest.approx(drawn, abs=0.1)


@given(SECONDS, st.floats(0.05, 1.0), st.floats(0.0, 1.0))
def test_a_pace_is_found_again_from_how_much_of_an_exchange_was_left(alone, pace, part):
    done = alone * part
    if done < 1e-6:
        return
    assert beside_pace(alone, alone - done, done / pace) == pytest.approx(pace)


def test_a_pace_is_never_none_and_never_more_than_alone():
    assert (
        beside_pace(1.0, 2.0, 3.0) == 0.05 and beside_pace(1.0, 0.0, 0.5) == 1.0 and beside_pace(1.0, 1.0, 0.0) == 1.0
    )


@given(st.integers(1, 8), st.floats(0.3, 1.0), SECONDS, st.floats(0.1, 1.0), st.floats(0.0, 2.0))
def test_cores_that_were_taken_are_found_again_from_what_computing_took_longer(cores, rate, work, pace, taken):
    """An exchange takes `taken` of them at full speed, for `work` seconds of it; computing lasts longer by all that."""
    longer = taken * work / (cores * rate)
    assert cores_taken(cores, rate, longer, work) == pytest.approx(taken)
    assert cores_taken(cores, rate, -longer, work) == 0.0 == cores_taken(cores, rate, longer, 0.0)
