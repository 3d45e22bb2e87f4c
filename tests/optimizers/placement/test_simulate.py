import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.placement.errors import PlacementError
from optimizers.placement.simulate import Task, fair_rates, simulate


def test_tasks_that_share_nothing_run_at_once_and_those_in_a_row_add_up():
    tasks = [Task("a", "0", "x", 2.0), Task("b", "1", "x", 3.0), Task("c", "0", "x", 1.5, after=(0, 1))]
    found = simulate(tasks, {})
    assert found.ends == (2.0, 3.0, 4.5) and found.step_seconds == 4.5
    assert found.union_seconds(("x",)) == 4.5 and found.busy_seconds("x", "0") == 3.5


def test_two_that_need_a_whole_link_take_twice_as_long_and_latency_takes_nothing():
    link = (("link", 1.0),)
    found = simulate([Task("a", "0", "x", 1.0, link), Task("b", "1", "x", 1.0, link, (), 0.25)], {"link": 1.0})
    # a alone until 0.25, both at half speed until a is over at 1.75, then b alone.
    assert found.ends == pytest.approx((1.75, 2.0)) and found.busy["link"] == pytest.approx(1.0)


def test_a_slow_user_of_a_link_is_not_slowed_by_a_fast_one():
    tasks = [Task("small", "0", "x", 1.0, (("link", 0.2),)), *(Task("big", "1", "x", 1.0, (("link", 1.0),)),) * 2]
    assert fair_rates(tasks[:2], {"link": 1.0}) == pytest.approx([0.8333333, 0.8333333])
    assert fair_rates(tasks, {"link": 10.0}) == [1.0, 1.0, 1.0]


def test_an_exchange_beside_computing_goes_at_its_measured_pace_and_takes_what_was_measured():
    cores = (("cores", 1.5),)
    exchange = Task("e", "1", "exchange", 1.0, cores, (), 0.0, (("cores", 2.0),), 0.5)
    computing = Task("c", "0", "x", 3.0, (("cores", 2.0),))
    alone, together = simulate([exchange], {"cores": 2.0}), simulate([exchange, computing], {"cores": 2.0})
    assert alone.step_seconds == 1.0
    # One of two cores is the exchange's for 2 s, in which half of 2 s is computed; then computing has both.
    assert together.ends == pytest.approx((2.0, 4.0)) and together.busy["cores"] == pytest.approx(1.0)
    short = dataclasses.replace(computing, seconds=0.5)
    # After 1 s of both, half of the exchange is left, and goes on alone at its full speed.
    assert simulate([exchange, short], {"cores": 2.0}).ends == pytest.approx((1.5, 1.0))
    other = dataclasses.replace(computing, uses=(("elsewhere", 2.0),))
    assert simulate([exchange, other], {"cores": 2.0, "elsewhere": 2.0}).ends == (1.0, 3.0)


def test_computing_goes_on_beside_whatever_was_measured():
    greedy = Task("e", "1", "exchange", 1.0, (), (), 0.0, (("cores", 40.0),), 1.0)
    uses = dataclasses.replace(greedy, uses=(("cores", 1.0),))
    rates = fair_rates([uses, Task("c", "0", "x", 1.0, (("cores", 2.0),))], {"cores": 2.0})
    assert rates == pytest.approx([0.045, 0.1])


def drawn(seed):
    pick = random.Random(seed)
    capacities = {name: pick.uniform(0.3, 3.0) for name in "abc"[: pick.randint(1, 3)]}
    tasks = []
    for place in range(pick.randint(0, 13)):
        uses = tuple((name, pick.uniform(0, 2)) for name in capacities if pick.random() < 0.7)
        after = tuple(pick.sample(range(place), min(place, pick.randint(0, 2))))
        tasks.append(
            Task(f"t{place}", str(place % 3), "x", pick.choice([0.0, pick.random()]), uses, after, pick.random())
        )
    return tasks, capacities


@given(st.integers(0, 10**9))
@settings(max_examples=60, deadline=None)
def test_nothing_starts_early_runs_faster_than_alone_or_takes_more_than_there_is(seed):
    tasks, capacities = drawn(seed)
    found = simulate(tasks, capacities)
    for place, task in enumerate(tasks):
        assert found.starts[place] >= max((found.ends[before] for before in task.after), default=0.0) - 1e-9
        assert found.ends[place] - found.starts[place] >= task.seconds + task.latency_seconds - 1e-9
    assert all(0.0 <= share <= 1.0 + 1e-9 for share in found.busy.values())
    # All the work is done: what was used is what the tasks ask for.
    for name, capacity in capacities.items():
        asked = sum(task.seconds * units for task in tasks for used, units in task.uses if used == name)
        assert found.busy[name] * capacity * found.step_seconds == pytest.approx(asked, abs=1e-6)


@given(st.integers(0, 10**9))
@settings(max_examples=60, deadline=None)
def test_rates_leave_no_task_slower_than_it_must_be(seed):
    tasks, capacities = drawn(seed)
    rates = fair_rates(tasks, capacities)
    used = {
        name: sum(r * u for t, r in zip(tasks, rates, strict=True) for n, u in t.uses if n == name)
        for name in capacities
    }
    for task, rate in zip(tasks, rates, strict=True):
        full = [name for name, units in task.uses if units > 0 and used[name] >= capacities[name] * (1 - 1e-9)]
        assert rate == pytest.approx(1.0) or full
    assert all(used[name] <= capacities[name] * (1 + 1e-9) for name in capacities)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Task("late", "0", "x", 1.0, after=(0,)), "name earlier tasks"),
        (Task("odd", "0", "x", 1.0, (("moon", 1.0),)), "uses 1.0 of moon"),
        (Task("long", "0", "x", float("inf")), "takes inf s"),
        (Task("back", "0", "x", 1.0, (), (), -1.0), "after -1.0 s"),
    ],
)
def test_what_cannot_be_is_said(task, words):
    with pytest.raises(PlacementError, match=words):
        simulate([task], {"link": 1.0})


def test_no_tasks_take_no_time():
    assert simulate([], {"link": 1.0}).step_seconds == 0.0
