"""The simulator on steps small enough to follow by hand, and against a bound that holds at any bandwidth."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.swap.exhaustive import use_all
from optimizers.swap.moves import Recompute, Swap, Tier
from optimizers.swap.plan import smallest_budget
from optimizers.swap.simulate import bound_curve, simulate
from optimizers.swap.timeline import Buffer, Event, Recipe, SwapError, Timeline
from tests.optimizers.swap.timelines import DISK, HOST, random_timeline

SEED = st.integers(0, 2**32)
LINK = Tier("host", 100.0, 50.0)


def step(*seconds: float) -> tuple[Event, ...]:
    return tuple(Event(index, f"op{index}", value) for index, value in enumerate(seconds))


def held(index: int, size: int, born: int, *uses: int) -> Buffer:
    return Buffer(index, index, size, "activation", born, uses, uses[-1])


FIVE = Timeline(step(1, 1, 1, 1, 1), (held(0, 100, 0, 0, 4), held(1, 60, 2, 2)), constant_bytes=5).check()


def test_nothing_moved_is_the_timeline_itself():
    found = simulate(FIVE, (), (LINK,))
    assert (found.step_seconds, found.peak_bytes, found.bound_bytes) == (5.0, 165, 165)
    assert found.event_bytes == (105, 105, 165, 105, 105)
    assert (found.base_bytes, found.peak_over_base_bytes, found.copies) == (5, 160, ())


def test_a_swap_that_hides_frees_the_peak_and_costs_no_time():
    timeline = replace(FIVE, events=step(1, 1, 1, 2, 1))
    found = simulate(timeline, [Swap(0, 0, 2, 3, 4, "host")], (LINK,))
    assert (found.step_seconds, found.waiting_seconds) == (6.0, 0.0)
    assert found.event_bytes == (105, 105, 65, 105, 105)
    spans = [(copy.direction, copy.issued_seconds, copy.start_seconds, copy.end_seconds) for copy in found.copies]
    assert spans == [("out", 1.0, 1.0, 2.0), ("in", 3.0, 3.0, 5.0)]


def test_to_start_a_copy_takes_compute_time_either_way():
    timeline = replace(FIVE, events=step(1, 1, 1, 2, 1))
    found = simulate(timeline, [Swap(0, 0, 2, 3, 4, "host")], (replace(LINK, issue_seconds=0.25),))
    assert found.event_starts == (0.0, 1.25, 2.25, 3.5, 5.5)
    assert (found.step_seconds, found.waiting_seconds) == (6.5, 0.5)
    assert [(copy.start_seconds, copy.end_seconds) for copy in found.copies] == [(1.0, 2.0), (3.25, 5.25)]
    with pytest.raises(SwapError, match="starting a copy takes -1 s"):
        replace(LINK, issue_seconds=-1)


def test_a_swap_without_room_for_its_copies_waits_for_both():
    found = simulate(FIVE, [Swap(0, 0, 1, 4, 4, "host")], (LINK,))
    assert found.event_starts == (0.0, 2.0, 3.0, 4.0, 7.0)
    assert (found.step_seconds, found.waiting_seconds, found.peak_bytes) == (8.0, 3.0, 105)


def test_copies_of_one_direction_share_a_lane_in_the_order_of_issue():
    timeline = Timeline(step(1, 1, 1, 1, 1, 1), (held(0, 100, 0, 0, 4), held(1, 100, 0, 0, 5))).check()
    found = simulate(timeline, [Swap(1, 0, 3, 3, 5, "host"), Swap(0, 0, 3, 3, 4, "host")], (LINK,))
    assert [(c.buffer, c.direction, c.start_seconds, c.end_seconds) for c in found.copies] == [
        (0, "out", 1.0, 2.0),
        (1, "out", 2.0, 3.0),
        (0, "in", 3.0, 5.0),
        (1, "in", 5.0, 7.0),
    ]
    assert found.event_starts == (0.0, 1.0, 2.0, 3.0, 5.0, 7.0)


def test_the_lane_out_holds_compute_back_beyond_its_bytes_in_flight():
    buffers = (held(0, 100, 0, 0, 4), held(1, 100, 0, 0, 5))
    timeline = Timeline(step(1, 1, 1, 1, 1, 1), buffers).check()
    moves = [Swap(0, 0, 4, 4, 4, "host"), Swap(1, 0, 4, 4, 5, "host")]
    free = simulate(timeline, moves, (LINK,))
    bounded = simulate(timeline, moves, (replace(LINK, bytes_in_flight=100),))
    assert free.event_starts[1] == 1.0
    assert bounded.event_starts[1] == 2.0
    assert bounded.waiting_seconds >= 1.0


def test_a_gap_that_wraps_begins_the_step_away_and_ends_it_when_its_copy_is_done():
    state = Buffer(0, 0, 100, "optimizer_state", -1, (2,), None)
    timeline = Timeline(step(1, 2, 1), (state, held(1, 70, 0, 0))).check()
    found = simulate(timeline, [Swap(0, 2, 3, 1, 2, "host")], (LINK,))
    assert found.event_bytes == (70, 100, 100)
    assert (found.peak_bytes, found.base_bytes) == (100, 100)
    assert (found.step_seconds, found.waiting_seconds) == (5.0, 1.0)


def test_what_is_recomputed_takes_time_and_scratch_just_before_its_use():
    timeline = replace(FIVE, recipes=(Recipe(0, 4, (0,), (), 0.5, scratch_bytes=30),)).check()
    found = simulate(timeline, [Recompute(0, 0, 4)], (LINK,))
    assert found.event_starts == (0.0, 1.0, 2.0, 3.0, 4.5)
    assert (found.step_seconds, found.recompute_seconds, found.waiting_seconds) == (5.5, 0.5, 0.0)
    assert found.event_bytes == (105, 5, 65, 135, 105)


def test_an_event_that_takes_no_time_still_counts_its_memory():
    timeline = Timeline(step(0, 0, 0), (held(0, 9, 0, 0), held(1, 70, 1, 1))).check()
    assert simulate(timeline, (), ()).event_bytes == (9, 70, 0)


def test_an_empty_step_has_its_constant_bytes():
    found = simulate(Timeline((), (), 11).check(), (), ())
    assert (found.peak_bytes, found.step_seconds, found.event_bytes) == (11, 0.0, ())


@pytest.mark.parametrize(
    ("move", "words"),
    [
        (Swap(0, 0, 2, 1, 4, "host"), "are not in order"),
        (Swap(0, 1, 2, 2, 4, "host"), "is no gap"),
        (Swap(1, 0, 2, 2, 4, "host"), "is no gap"),
        (Swap(0, 0, 1, 4, 4, "tape"), "tier 'tape'; known: host"),
        (Recompute(0, 0, 4), "has no recipe before event 4"),
    ],
)
def test_a_move_that_cannot_be_made_is_named(move, words):
    with pytest.raises(SwapError, match=words):
        simulate(FIVE, [move], (LINK,))
    with pytest.raises(SwapError, match="is used twice"):
        simulate(FIVE, [Swap(0, 0, 1, 4, 4, "host")] * 2, (LINK,))


def test_nothing_is_made_again_from_what_is_away():
    buffers = (held(0, 10, 0, 0, 5), held(1, 10, 1, 1, 4))
    timeline = Timeline(step(1, 1, 1, 1, 1, 1), buffers, 0, (Recipe(1, 4, (1,), (0,), 0.1),)).check()
    simulate(timeline, [Recompute(1, 1, 4)], (LINK,))
    with pytest.raises(SwapError, match="made again from buffer 0, which is away"):
        simulate(timeline, [Recompute(1, 1, 4), Swap(0, 0, 1, 5, 5, "host")], (LINK,))


@settings(max_examples=150, deadline=None)
@given(SEED, st.booleans())
def test_the_peak_stays_under_the_bound_at_any_bandwidth(seed, slow):
    draw = random.Random(seed)
    timeline = random_timeline(draw, draw.randrange(1, 20), draw.randrange(12))
    tiers = (HOST, replace(DISK, bytes_in_flight=draw.choice([0, 100, 10**9])))
    chosen = [move for move in use_all(timeline, tiers, ("swap", "recompute")).moves() if draw.random() < 0.7]
    moves = []
    for move in chosen:
        if isinstance(move, Swap) and not move.gap.wraps:
            freed = draw.randint(move.after + 1, move.before)
            move = replace(move, freed_by=freed, prefetch=draw.randint(freed, move.before))
        moves.append(replace(move, tier="disk") if isinstance(move, Swap) and slow else move)
    found = simulate(timeline, moves, tiers)
    assert found.peak_bytes <= found.bound_bytes
    assert all(live <= bound for live, bound in zip(found.event_bytes, _with_next(timeline, moves, tiers), strict=True))
    assert found.step_seconds >= timeline.seconds + found.recompute_seconds - 1e-9
    assert found.step_seconds == pytest.approx(
        timeline.seconds + found.recompute_seconds + found.waiting_seconds, abs=1e-8
    )
    assert simulate(timeline, list(reversed(moves)), tiers) == found


def _with_next(timeline, moves, tiers):
    """Between two events both bounds may be in force."""
    curve = bound_curve(timeline, moves, tiers).tolist()
    return [max(curve[place : place + 2]) for place in range(len(curve))]


@settings(max_examples=60, deadline=None)
@given(SEED)
def test_the_lanes_do_one_copy_at_a_time_and_a_copy_in_follows_its_copy_out(seed):
    draw = random.Random(seed)
    timeline = random_timeline(draw, draw.randrange(2, 20), draw.randrange(12))
    moves = use_all(timeline, (HOST,), ("swap",)).moves()
    found = simulate(timeline, moves, (HOST,))
    for direction in ("out", "in"):
        lane = [copy for copy in found.copies if copy.direction == direction]
        assert all(one.end_seconds <= other.start_seconds for one, other in pairwise(lane))
        assert all(copy.issued_seconds <= copy.start_seconds < copy.end_seconds for copy in lane)
    assert len(found.copies) == 2 * len(moves)
    assert sum(copy.bytes for copy in found.copies) == 2 * sum(timeline.buffers[m.buffer].bytes for m in moves)
    assert smallest_budget(timeline, (HOST,), ("swap",)) >= found.peak_bytes
