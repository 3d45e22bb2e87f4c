"""Curves never rise with the budget; a straight line through two batches finds the largest that fits."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.measurement import Estimate
from optimizers.plan import Refusal
from optimizers.swap.plan import plan
from optimizers.swap.timeline import SwapError, Timeline
from optimizers.swap.what_if import BatchModel, largest_batch, time_curve
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
    timeline = grown(1)
    points = time_curve(timeline, (HOST,), budgets=[0, timeline.peak_bytes])
    assert [point.budget_bytes for point in points] == [timeline.peak_bytes]


def grown(batch: int, seed: int = 3) -> Timeline:
    """Return a step whose activations and times grow with the batch, a fixed part apart."""
    base = random_timeline(random.Random(seed), 12, 10)
    buffers = tuple(replace(b, bytes=b.bytes * (batch if b.born >= 0 else 1)) for b in base.buffers)
    events = tuple(replace(e, seconds=0.001 + batch * e.seconds) for e in base.events)
    recipes = tuple(replace(r, seconds=batch * r.seconds, scratch_bytes=batch * r.scratch_bytes) for r in base.recipes)
    return Timeline(events, buffers, base.constant_bytes, recipes).check()


def grown_model(small: int, large: int) -> BatchModel:
    # Times as short as these would be lost in rounding: the batches differ by enough.
    return BatchModel(grown(small), small, grown(large), large)


def test_a_batch_between_and_beyond_is_on_the_line():
    for batch in (1, 5, 9, 40):
        found, truth = grown_model(4, 9).at(batch), grown(batch)
        assert found.live_bytes.tolist() == truth.live_bytes.tolist()
        assert found.seconds == pytest.approx(truth.seconds)
        assert found.notes == (f"predicted for batch {batch}",)


@pytest.mark.parametrize("times", [1, 3, 10])
def test_the_largest_batch_fits_and_the_next_one_does_not(times):
    model = grown_model(2, 7)
    budget = times * grown(5).peak_bytes
    found = largest_batch(model, budget, (HOST,))
    batch = int(found.batch.mid)
    assert isinstance(found.batch, Estimate)
    assert found.batch.unit == "items"
    assert batch >= 5 * times - 5
    assert found.plan.simulation.peak_bytes <= budget
    assert not isinstance(plan(grown(batch), budget, (HOST,)), Refusal)
    assert isinstance(plan(grown(batch + 1), budget, (HOST,)), Refusal)


def test_the_search_stops_at_the_most_that_was_asked_for():
    assert largest_batch(grown_model(2, 7), 10**12, (HOST,), most=37).batch.mid == 37


def test_a_budget_too_small_for_one_is_refused_with_the_smallest_that_works():
    refusal = largest_batch(grown_model(2, 7), 1, (HOST,))
    assert "not even a batch of 1" in refusal.reason
    assert "smallest that works is" in refusal.reason


def test_steps_that_differ_are_no_model():
    with pytest.raises(SwapError, match="the smaller one first"):
        BatchModel(grown(2), 2, grown(2), 2)
    with pytest.raises(SwapError, match="differ|otherwise|buffers"):
        BatchModel(grown(2), 2, grown(7, seed=4), 7)
    shorter = replace(grown(7), events=grown(7).events[:-1])
    with pytest.raises(SwapError, match="the steps differ: 12 events and 11"):
        BatchModel(grown(2), 2, shorter, 7)
