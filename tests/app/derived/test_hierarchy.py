"""The tree that the graph shows: every op once, loops rolled up, no list too long."""

import numpy as np
import pytest

from app.derived.columns import read_columns
from app.derived.grouping import MANY, op_label
from app.derived.hierarchy import load, make_hierarchy, read_hierarchy, save
from app.store import open_store
from benchmarks.synthetic_runs import save_synthetic
from tests.app.derived.values import stored, unrolled
from tests.synthetic import Call


@pytest.fixture
def store(tmp_path):
    with open_store(str(tmp_path / "store")) as opened:
        yield opened


def tree(store, calls, lines=0):
    return read_hierarchy(store, stored(store, calls, lines).id)


def outline(hierarchy, node=0):
    return [(hierarchy.kinds[child], hierarchy.labels[child]) for child in hierarchy.children(node)]


def assert_sound(hierarchy, run):
    """Assert what holds of every tree."""
    seconds = [op.self_seconds.median for op in run.graph.ops]
    assert hierarchy.ops[0] == len(seconds) and hierarchy.seconds[0] == pytest.approx(sum(seconds))
    for node in range(len(hierarchy.kinds)):
        children = list(hierarchy.children(node))
        assert len(children) <= MANY
        assert all(hierarchy.parent[child] == node for child in children)
        if children and hierarchy.op[node] < 0:
            assert hierarchy.ops[node] == sum(hierarchy.ops[child] for child in children)
    named = [op for op in hierarchy.op.tolist() if op >= 0]
    assert set(named) <= set(range(len(seconds)))
    for edge, source, target in zip(run.graph.edges, hierarchy.edge_source, hierarchy.edge_target, strict=True):
        assert hierarchy.node_of_op[edge.source] == source and hierarchy.node_of_op[edge.target] == target


def test_an_unrolled_loop_is_one_node_with_its_body(store):
    hierarchy = tree(store, unrolled(100), lines=4)
    assert outline(hierarchy) == [("op", "zeros"), ("repeat", "model.py:1–4")]
    loop = list(hierarchy.children(0))[1]
    assert hierarchy.times[loop] == 100
    assert outline(hierarchy, loop) == [("position", name) for name in ("mm", "add", "sigmoid", "mul")]
    body = list(hierarchy.children(loop))
    assert [hierarchy.ops[place] for place in body] == [100] * 4
    assert hierarchy.seconds[body[0]] == pytest.approx(100 * 8e-6)


def test_few_ops_are_shown_as_they_are(store):
    assert outline(tree(store, unrolled(2), lines=4)) == [
        ("op", name) for name in ("zeros", *("mm", "add", "sigmoid", "mul") * 2)
    ]


def test_modules_nest_and_a_module_that_holds_one_other_is_merged_with_it(store):
    calls = [
        Call("aten::embedding", 1e-6, scope="net.embed"),
        Call("aten::linear", 1e-6, reads=(0,), scope="net.layers.0.linear"),
        Call("aten::relu", 1e-6, reads=(1,), scope="net.layers.0"),
        Call("aten::linear", 1e-6, reads=(2,), scope="net.layers.1.linear"),
    ]
    hierarchy = tree(store, calls)
    assert outline(hierarchy) == [("module", "net")]
    net = 1
    assert outline(hierarchy, net) == [("module", "embed"), ("module", "layers")]
    layers = list(hierarchy.children(net))[1]
    assert outline(hierarchy, layers) == [("module", "0"), ("module", "1.linear")]
    assert hierarchy.module("net.layers.1") == hierarchy.module("net.layers.1.linear")
    assert hierarchy.module("net.layer") is None


def test_ops_outside_modules_are_grouped_by_line(store):
    calls = [Call("aten::linear", 1e-6, scope="head"), *[Call(f"aten::op{index}", 1e-6) for index in range(6)]]
    hierarchy = tree(store, calls, lines=2)
    assert outline(hierarchy) == [("module", "head"), ("line", "model.py:1"), ("line", "model.py:2")]


def test_phases_come_in_their_own_order(store):
    calls = [
        Call("aten::zero_", 1e-6, phase="optimizer"),
        Call("aten::mm", 1e-6),
        Call("aten::mm", 1e-6, phase="backward"),
    ]
    assert outline(tree(store, calls)) == [("phase", "forward"), ("phase", "backward"), ("phase", "optimizer")]


def test_a_call_holds_what_it_calls_and_its_own_part(store):
    calls = [Call("aten::linear", 1e-6), Call("aten::t", 1e-6, parent=0), Call("aten::addmm", 5e-6, parent=0)]
    hierarchy = tree(store, calls)
    assert outline(hierarchy, 1) == [("op", "t"), ("op", "addmm"), ("own", "linear itself")]
    assert hierarchy.seconds[1] == pytest.approx(7e-6)
    assert hierarchy.kinds[hierarchy.node_of_op[0]] == "own"


def test_a_wrapper_around_modules_does_not_pull_them_out_of_the_tree(store):
    calls = [Call("my annotation", 1e-6), Call("aten::linear", 1e-6, parent=0, scope="head")]
    assert outline(tree(store, calls)) == [("op", "my annotation"), ("module", "head")]


def test_many_equal_modules_are_one_loop_of_modules(store):
    calls = [
        Call(name, 1e-6, reads=(2 * layer + place - 1,) if layer + place else (), scope=f"layers.{layer}.linear")
        for layer in range(30)
        for place, name in enumerate(("aten::mm", "aten::add"))
    ]
    hierarchy = tree(store, calls, lines=2)
    loop = 2
    assert outline(hierarchy, 1) == [("repeat", "0 … 29")] and hierarchy.times[loop] == 30
    assert hierarchy.child_count(loop) == 30


def test_long_lists_become_ranges(store):
    calls = [Call(f"aten::op{index * index % 977}", 1e-6) for index in range(950)]
    hierarchy = tree(store, calls)
    assert {kind for kind, _ in outline(hierarchy)} == {"range"}
    assert 1 < hierarchy.child_count(0) <= MANY


@pytest.mark.parametrize("turns", [0, 1, 37, 300])
def test_every_tree_is_sound(store, turns):
    run = stored(store, unrolled(turns, "cell"), lines=4)
    assert_sound(read_hierarchy(store, run.id), run)


def test_the_tree_of_a_large_run_is_sound_and_saved_whole(store, tmp_path):
    columns = read_columns(store, save_synthetic(store, 1500))
    hierarchy = make_hierarchy(columns)
    save(hierarchy, tmp_path / "graph.npz")
    again = load(tmp_path / "graph.npz")
    for name in fields_of(hierarchy):
        np.testing.assert_array_equal(getattr(again, name), getattr(hierarchy, name))
    assert hierarchy.ops[0] == columns.ops.num_rows


def fields_of(hierarchy):
    return list(hierarchy.__dataclass_fields__)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("aten::mm", "mm"),
        ("autograd::engine::evaluate_function: MulBackward0", "MulBackward0"),
        ("autograd::engine::evaluate_function: torch::autograd::AccumulateGrad", "AccumulateGrad"),
        ("Optimizer.step#AdamW.step", "AdamW.step"),
        ("aten::", "aten::"),
    ],
)
def test_labels_leave_out_what_all_names_share(name, label):
    assert op_label(name) == label
