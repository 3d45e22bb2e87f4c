"""The integer program bounds every plan from below, and its decisions stand up in the simulator."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.plan import Refusal
from optimizers.swap.audit import audit, least_peak
from optimizers.swap.moves import Tier
from optimizers.swap.plan import smallest_budget
from optimizers.swap.timeline import SwapError
from tests.optimizers.swap.test_simulate import FIVE, LINK
from tests.optimizers.swap.timelines import DISK, HOST, random_timeline, training_step

ALLOWED = st.sampled_from([("swap",), ("recompute",), ("swap", "recompute")])


def test_the_bound_is_exact_on_a_step_with_one_way_out():
    found = audit(FIVE, 110, (LINK,))
    assert found.least_seconds == pytest.approx(6.0)
    assert found.plan.simulation.step_seconds == pytest.approx(6.0)


def test_a_budget_that_needs_no_move_takes_the_step_itself():
    assert audit(FIVE, FIVE.peak_bytes, (LINK,)).least_seconds == FIVE.seconds


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), ALLOWED, st.sampled_from([(HOST,), (HOST, DISK)]), st.floats(0.0, 1.0))
def test_no_plan_is_quicker_than_the_bound_and_the_best_one_keeps_the_budget(seed, allow, tiers, share):
    draw = random.Random(seed)
    timeline = random_timeline(draw, draw.randrange(2, 11), draw.randrange(1, 8))
    low, high = smallest_budget(timeline, tiers, allow), timeline.peak_bytes
    budget = int(low + share * (high - low))
    found = audit(timeline, budget, tiers, allow)
    assert not isinstance(found, Refusal)
    assert found.greedy.simulation.step_seconds >= found.least_seconds - 1e-6
    assert found.plan.simulation.step_seconds <= found.greedy.simulation.step_seconds
    assert found.plan.simulation.peak_bytes <= budget
    assert found.greedy_over_least >= 1.0 - 1e-6
    assert least_peak(timeline, tiers, allow) <= low


def test_a_refusal_is_the_planner_s():
    assert isinstance(audit(FIVE, 1, (LINK,)), Refusal)


def test_a_step_too_large_to_audit_is_refused_in_words():
    timeline = training_step(random.Random(0), 200)
    with pytest.raises(SwapError, match="too many to audit"):
        audit(timeline, timeline.peak_bytes // 2, (Tier("host", 1e9, 1e9),))
