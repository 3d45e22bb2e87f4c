"""The split of a step adds up, and hidden communication is what ran before the last gradient."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizers.placement.step_times import Marks, StepTimes, covered, mean_of_ranks

SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda pair: (min(pair), max(pair))), max_size=8)


@given(SPANS, st.integers(0, 40), st.integers(0, 40))
def test_covered_is_the_measure_of_the_union(spans, begin, end):
    ticks = {tick for first, last in spans for tick in range(first, last) if begin <= tick < end}
    assert covered(spans, begin, end) == len(ticks)


def test_the_marks_split_a_step():
    now = iter([10.0, 13.0, 14.0, 16.0, 17.0])
    marks = Marks(clock=lambda: next(now))
    marks.begin()
    marks.gradient_ready()
    marks.gradient_ready()
    marks.message(12.0, 13.5)
    marks.message(13.0, 15.0)
    marks.all_exchanged()
    assert marks.end() == StepTimes(seconds=7.0, compute_seconds=5.0, exposed_seconds=2.0, hidden_seconds=2.0)


def test_a_message_that_ends_in_the_next_step_is_not_billed_to_it():
    now = iter([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    marks = Marks(clock=lambda: next(now))
    marks.begin()
    late = marks.sending()
    marks.gradient_ready()
    marks.all_exchanged()
    marks.end()
    marks.begin()
    late(None)
    marks.gradient_ready()
    assert marks.end().hidden_seconds == 0.0


def test_what_is_asked_for_after_the_step_takes_none_of_its_time():
    now = iter([0.0, 4.0, 5.0, 6.0])
    asked = []
    marks = Marks(clock=lambda: next(now), ask_after=lambda: asked.append(marks.last_ready) or [(1.0, 4.5)])
    marks.begin()
    marks.gradient_ready()
    marks.all_exchanged()
    marks.message(0.5, 1.5)
    assert marks.end() == StepTimes(6.0, 5.0, 1.0, 3.5) and asked == [4.0]


def test_the_mean_of_ranks_is_of_each_part():
    mean = mean_of_ranks([StepTimes(4.0, 3.0, 1.0, 0.5), StepTimes(2.0, 1.0, 1.0, 0.0)])
    assert mean == StepTimes(3.0, 2.0, 1.0, 0.25)
    assert mean.seconds == pytest.approx(mean.compute_seconds + mean.exposed_seconds)
