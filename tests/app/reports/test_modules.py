"""Self time by module: children are within their parents, and nothing is lost."""

import math

from app.reports.modules import OUTSIDE, module_times
from tests.synthetic import Call, make_run


def times(*calls):
    return module_times(make_run([Call("aten::add", seconds, scope=scope) for seconds, scope in calls]).graph)


def test_a_module_contains_its_submodules_and_stands_above_them():
    rows = times((1.0, "a.x"), (2.0, "a.y"), (4.0, "b"), (0.5, "a"))
    assert [(row.path, row.depth, row.seconds, row.ops) for row in rows] == [
        ("b", 0, 4.0, 1), ("a", 0, 3.5, 3), ("a.y", 1, 2.0, 1), ("a.x", 1, 1.0, 1),
    ]  # fmt: skip


def test_ops_outside_of_modules_have_their_own_row():
    assert [(row.path, row.seconds) for row in times((1.0, ""), (3.0, "a"))] == [("a", 3.0), (OUTSIDE, 1.0)]


def test_a_module_whose_ops_are_all_in_one_submodule_is_left_to_that():
    assert [(row.path, row.depth) for row in times((1.0, "a.b.c"), (1.0, "a.b.d"))] == [
        ("a.b", 0), ("a.b.c", 1), ("a.b.d", 1),
    ]  # fmt: skip


def test_shares_of_the_top_level_sum_to_one():
    rows = times(*((0.1 * index, f"m{index % 5}.n{index % 3}") for index in range(1, 40)))
    assert math.isclose(sum(row.share for row in rows if row.depth == 0), 1.0)


def test_deep_paths_are_cut_and_the_list_is_short():
    rows = times(*((1.0, f"a.b{index}.c.d.e") for index in range(50)))
    assert len(rows) == 16 and max(row.path.count(".") for row in rows) <= 2


def test_no_ops_give_no_rows():
    assert times() == ()
