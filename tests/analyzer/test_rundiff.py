"""Two runs are told apart by op and module."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from analyzer.rundiff import diff_runs
from tests.synthetic import Call, make_run


def names(differences):
    return [(item.name, item.scope, item.calls_before, item.calls_after) for item in differences]


def test_a_run_does_not_differ_from_itself():
    run = make_run([Call("aten::add", 1e-5), Call("aten::mul", 2e-5, reads=(0,))])
    difference = diff_runs(run, run)
    assert (difference.added, difference.removed, difference.changed) == ((), (), ())


def test_empty_runs_do_not_differ():
    assert diff_runs(make_run([]), make_run([])).added == ()


def test_ops_that_come_and_go_are_told_by_module():
    before = make_run([Call("aten::add", 1e-5, scope="a"), Call("aten::mul", 1e-5, scope="a")])
    after = make_run([Call("aten::add", 1e-5, scope="b"), Call("aten::mul", 1e-5, scope="a")])
    difference = diff_runs(before, after)
    assert names(difference.added) == [("aten::add", "b", 0, 1)]
    assert names(difference.removed) == [("aten::add", "a", 1, 0)]
    assert difference.changed == ()


def test_another_number_of_calls_is_a_change():
    before = make_run([Call("aten::add", 1e-5)])
    after = make_run([Call("aten::add", 1e-5), Call("aten::add", 1e-5)])
    assert names(diff_runs(before, after).changed) == [("aten::add", "", 1, 2)]


def test_times_whose_quartiles_overlap_are_unchanged_and_others_changed():
    def run(seconds):
        return make_run([Call("aten::add", seconds)])

    assert diff_runs(run(1.0e-5), run(1.1e-5)).changed == ()
    (change,) = diff_runs(run(1.0e-5), run(2.0e-5)).changed
    assert (change.seconds_before, change.seconds_after) == (1.0e-5, 2.0e-5)


def test_the_largest_change_of_time_comes_first():
    before = make_run([Call("aten::add", 1e-5), Call("aten::mul", 1e-5)])
    after = make_run([Call("aten::add", 2e-5), Call("aten::mul", 9e-5)])
    assert [item.name for item in diff_runs(before, after).changed] == ["aten::mul", "aten::add"]


def test_an_op_without_a_time_counts_as_a_call():
    run = make_run([Call("aten::add", 1e-5)])
    op = dataclasses.replace(run.graph.ops[0], self_seconds=None)
    bare = dataclasses.replace(run, graph=dataclasses.replace(run.graph, ops=(op,)))
    assert names(diff_runs(make_run([]), bare).added) == [("aten::add", "", 0, 1)]


ADD, MM = Call("aten::add", 0.001, scope="block.0"), Call("aten::mm", 0.004, scope="block.0")


@given(st.lists(st.sampled_from([ADD, MM, Call("aten::tanh", 0.002)]), max_size=7), st.integers(0, 7))
def test_what_is_added_one_way_is_removed_the_other(calls, cut):
    whole, part = make_run(calls), make_run(calls[:cut])
    forth, back = diff_runs(whole, part), diff_runs(part, whole)
    assert {item[:2] for item in names(forth.removed)} == {item[:2] for item in names(back.added)}
    assert len(forth.changed) == len(back.changed)
