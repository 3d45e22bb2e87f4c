"""Positions are joined, self times leave children out, blocks are planned, noise is kept away."""

import os
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.capture.alignment import join_times, match_positions
from analyzer.capture.blocks import plan_blocks
from analyzer.capture.quiet import NOISE, quiet_profiler
from analyzer.capture.recording import OpEvent, nest, self_nanoseconds
from analyzer.capture.stepops import StepOps
from analyzer.capture.timingpass import summarise_steps

NAMES = st.lists(st.sampled_from("abc"), max_size=14)


@given(NAMES)
def test_equal_sequences_match_position_by_position(names):
    assert match_positions(names, list(names)) == [(i, i) for i in range(len(names))]


@given(NAMES, NAMES)
def test_matches_rise_on_both_sides_and_join_equal_names_only(names, others):
    pairs = match_positions(names, others)
    assert all(names[a] == others[b] for a, b in pairs)
    assert all(a < c and b < d for (a, b), (c, d) in pairwise(pairs))


@given(NAMES, st.data())
def test_one_op_more_costs_no_match(names, data):
    place = data.draw(st.integers(0, len(names)))
    assert len(match_positions(names, [*names[:place], "new", *names[place:]])) == len(names)


def step(names, nanoseconds):
    return StepOps(tuple(names), (-1,) * len(names), tuple(nanoseconds))


def test_times_are_medians_over_the_steps_that_have_the_op():
    joined = join_times("abc", [step("abc", (10, 20, 30)), step("ac", (30, 50)), step("abc", (20, 40, 40))])
    assert [value.samples for value in joined] == [3, 2, 3]
    assert [value.median for value in joined] == pytest.approx([2e-8, 3e-8, 4e-8])
    assert all(value.low <= value.median <= value.high and value.unit == "s" for value in joined)


def test_an_op_that_no_step_has_is_not_timed():
    first, second = join_times("ab", [step("a", (5,))])
    assert first is not None and second is None
    assert join_times("ab", []) == [None, None] and join_times("", [step("", ())]) == []


def test_nesting_comes_from_time_and_self_time_leaves_children_out():
    ops = nest(
        [
            OpEvent("leaf", 20, 30, 1, 3),
            OpEvent("top", 0, 100, 1, 1),
            OpEvent("middle", 10, 60, 1, 2),
            OpEvent("other thread", 15, 25, 2, 9),
            OpEvent("next", 100, 120, 1, 10),
            OpEvent("late leaf", 60, 60, 1, 5),
        ]
    )
    parents = {op.name: ops[op.parent].name if op.parent >= 0 else "" for op in ops}
    assert parents == {
        "top": "", "middle": "top", "leaf": "middle", "other thread": "", "late leaf": "middle", "next": "",
    }  # fmt: skip
    own = {op.name: seconds for op, seconds in zip(ops, self_nanoseconds(ops), strict=True)}
    assert own == {"top": 50, "middle": 40, "leaf": 10, "other thread": 10, "late leaf": 0, "next": 20}


def test_a_child_that_starts_in_the_same_tick_stays_a_child():
    ops = nest([OpEvent("child", 5, 9, 1, 8), OpEvent("parent", 5, 9, 1, 7)])
    assert [(op.name, op.parent) for op in ops] == [("parent", -1), ("child", 0)]


@given(st.floats(1e-5, 20.0), st.one_of(st.none(), st.integers(1, 500)))
def test_the_plan_gives_at_least_the_steps_asked_for(seconds, steps):
    plan = plan_blocks(seconds, steps)
    assert plan.blocks >= 1 and plan.steps >= 1 and plan.lead_in == (seconds < 0.25)
    assert plan.blocks * plan.steps >= (5 if steps is None else steps)
    assert steps is None or plan.blocks * plan.steps < steps + plan.steps


def test_percentiles_of_the_steps_are_in_order():
    time = summarise_steps((0.1, 0.3, 0.2, 0.9))
    assert time.low <= time.median <= time.high <= time.p95 <= time.p99 <= 0.9
    assert time.median == pytest.approx(0.25) and time.samples == 4


def test_the_profilers_chatter_is_dropped_and_the_users_lines_pass(capfd):
    with quiet_profiler():
        os.write(2, b"USDT:2026 SyncActivityProfilerHandler.cpp:52] profiler_start\n")
        os.write(2, b"[W execution_trace_observer.cpp:989] Enabling Execution Trace Observer\n")
        os.write(2, b"a warning of the user's\n")
        print("through python", file=sys.__stderr__, flush=True)
        os.write(2, b"no newline at the end")
    os.write(2, b"\nafterwards\n")
    assert capfd.readouterr().err.replace("through python\n", "") == (
        "a warning of the user's\nno newline at the end\nafterwards\n"
    )
    assert not NOISE.search(b"error: out of memory")


def test_standard_error_is_put_back_when_the_step_raises(capfd):
    with pytest.raises(ValueError, match="mine"), quiet_profiler():
        raise ValueError("mine")
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
