"""Curves never rise with the budget."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.swap.what_if import time_curve
from tests.optimizers.swap.timelines import HOST, random_timeline


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_a_larger_budget_never_takes_longer_and_each_point_keeps_its_own(seed):
    draw = random.Random(seed)
    timeline = random_timeline(draw, draw.randrange(1, 20), draw.randrange(12))
    points = time_curve(timeline, (HOST,))
    assert all(point.plan.simulation.peak_bytes <= point.budget_bytes for point in points)
    times = [point.plan.simulation.step_seconds for point in points]
    assert times == sorted(times, reverse=True)
    assert points[-1].plan.moves == ()
    assert points[-1].budget_bytes == timeline.peak_bytes


def test_a_budget_that_cannot_be_kept_is_no_point_of_the_curve():
    timeline = random_timeline(random.Random(3), 12, 10)
    points = time_curve(timeline, (HOST,), budgets=[0, timeline.peak_bytes])
    assert [point.budget_bytes for point in points] == [timeline.peak_bytes]
