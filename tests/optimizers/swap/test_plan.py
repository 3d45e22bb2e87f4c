"""Plans keep their budget, move nothing without need, and name the smallest budget when none does."""

import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.plan import Refusal
from optimizers.swap.moves import Tier
from optimizers.swap.plan import plan, smallest_budget
from optimizers.swap.simulate import simulate
from optimizers.swap.timeline import SwapError, Timeline
from tests.optimizers.swap.timelines import DISK, HOST, random_timeline, training_step

SEED = st.integers(0, 2**32)
ALLOWED = st.sampled_from([("swap",), ("recompute",), ("swap", "recompute")])
NARROW = replace(HOST, capacity_bytes=600)
TIERS = st.sampled_from([(HOST,), (HOST, DISK), (NARROW,), (NARROW, DISK)])


def any_timeline(seed: int) -> Timeline:
    draw = random.Random(seed)
    return random_timeline(draw, draw.randrange(1, 24), draw.randrange(16))


@settings(max_examples=200, deadline=None)
@given(SEED, ALLOWED, TIERS, st.floats(0.0, 1.0))
def test_a_plan_keeps_its_budget_and_a_refusal_names_one_that_works(seed, allow, tiers, share):
    timeline = any_timeline(seed)
    budget = int(share * timeline.peak_bytes)
    found = plan(timeline, budget, tiers, allow)
    if isinstance(found, Refusal):
        assert "\n" not in found.reason
        smallest = int(re.search(r"smallest that works is (\d+)", found.reason).group(1))
        assert budget < smallest <= timeline.peak_bytes
        found = plan(timeline, smallest, tiers, allow)
        budget = smallest
    assert found.simulation.peak_bytes <= found.simulation.bound_bytes <= budget
    assert simulate(timeline, found.moves, tiers) == found.simulation
    assert "recompute" in allow or not found.recomputed
    assert "swap" in allow or not found.swapped
    assert found.step.low <= found.simulation.step_seconds <= found.step.high


@settings(max_examples=60, deadline=None)
@given(SEED, st.integers(0, 50))
def test_a_budget_of_the_peak_or_more_moves_nothing(seed, more):
    timeline = any_timeline(seed)
    found = plan(timeline, timeline.peak_bytes + more, (HOST,))
    assert found.moves == ()
    assert found.simulation.step_seconds == timeline.seconds
    assert found.simulation.peak_bytes == found.unmoved_peak_bytes == timeline.peak_bytes


@settings(max_examples=60, deadline=None)
@given(SEED)
def test_one_byte_below_the_smallest_budget_is_refused_and_no_swap_could_keep_it(seed):
    timeline = any_timeline(seed)
    smallest = smallest_budget(timeline, (HOST,), ("swap",))
    assert isinstance(plan(timeline, smallest - 1, (HOST,), ("swap",)), Refusal)
    must_stay = timeline.live_bytes.tolist()
    for gap in timeline.gaps:
        for event in range(len(must_stay)):
            inside = (event > gap.after or event < gap.before) if gap.wraps else gap.after < event < gap.before
            must_stay[event] -= timeline.buffers[gap.buffer].bytes * inside
    assert smallest == max(must_stay)


@settings(max_examples=60, deadline=None)
@given(SEED, st.floats(0.1, 0.9))
def test_no_tier_holds_more_than_its_capacity(seed, share):
    timeline = any_timeline(seed)
    found = plan(timeline, int(share * timeline.peak_bytes), (NARROW, DISK), ("swap",))
    if isinstance(found, Refusal):
        return
    for event in range(len(timeline.events)):
        held = sum(
            timeline.buffers[move.buffer].bytes
            for move in found.swapped
            if move.tier == "host"
            and (
                (event >= move.after or event <= move.before) if move.gap.wraps else move.after <= event <= move.before
            )
        )
        assert held <= 600


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.8, 0.5, 0.2])
def test_a_training_step_with_fast_copies_gives_memory_for_no_time(seed, share):
    timeline = training_step(random.Random(seed), 301, state=40)
    fast = Tier("host", 60e9, 60e9, 1e-6)
    found = plan(timeline, int(share * timeline.peak_bytes), (fast,))
    assert found.moves
    assert found.simulation.step_seconds <= 1.01 * timeline.seconds


def test_what_is_cheap_to_make_again_is_not_copied_over_a_slow_link():
    timeline = training_step(random.Random(5), 201, recipes=True)
    budget = int(0.8 * timeline.peak_bytes)
    slow, fast = Tier("disk", 2e8, 2e8, 1e-3), Tier("host", 60e9, 60e9, 1e-6)
    assert len(plan(timeline, budget, (slow,)).recomputed) > 10
    assert not plan(timeline, budget, (fast,)).recomputed


def test_more_methods_are_no_slower_where_the_planner_tries_each_alone():
    timeline = training_step(random.Random(6), 151, recipes=True)
    budget = int(0.7 * timeline.peak_bytes)
    tier = Tier("disk", 1e9, 1e9, 1e-4)
    both, alone = plan(timeline, budget, (tier,)), plan(timeline, budget, (tier,), ("swap",))
    assert both.simulation.step_seconds <= alone.simulation.step_seconds


@pytest.mark.parametrize(
    ("allow", "tiers", "words"),
    [((), (HOST,), "name at least one"), (("move",), (HOST,), "'move'"), (("swap",), (), "no tier is given")],
)
def test_what_is_asked_for_in_vain_is_named(allow, tiers, words):
    with pytest.raises(SwapError, match=words):
        plan(any_timeline(1), 10, tiers, allow)
