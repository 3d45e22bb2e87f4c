"""Opening and closing parts of the graph, and the scene that follows from it."""

import math
from collections import defaultdict

import pytest

from app.derived.hierarchy import read_hierarchy
from app.store import open_store
from app.views import graph as module
from app.views.graph import (
    Change,
    View,
    collapse,
    expand,
    first_view,
    node_of,
    open_alone,
    read_view,
    reveal,
    search,
    shown_nodes,
    shown_place,
    visible_count,
    write_view,
)
from app.views.graph_elements import (
    DARK_RAMP,
    LIGHT_RAMP,
    elements,
    heat_colour,
    luminance,
    readable_ink,
    relative,
    stylesheet,
)
from app.views.graph_scene import make_scene
from benchmarks.synthetic_runs import save_synthetic
from tests.app.derived.values import save, stored, unrolled
from tests.app.values import HOSTILE, report_run
from tests.synthetic import Call


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_store(str(tmp_path_factory.mktemp("graph") / "store")) as opened:
        yield opened


@pytest.fixture(scope="module")
def loop(store):
    """A loop of a hundred turns: node 2 is the loop, its body's first place is node 3."""
    return read_hierarchy(store, stored(store, unrolled(100), lines=4).id)


@pytest.fixture(scope="module")
def large(store):
    return read_hierarchy(store, save_synthetic(store, 3000))


@pytest.fixture(scope="module")
def hostile(store):
    return read_hierarchy(store, save(store, report_run()).id)


def everything(hierarchy):
    return View(0, frozenset(node for node in range(len(hierarchy.kinds)) if not hierarchy.is_leaf(node)))


def test_the_first_view_opens_the_loop_and_not_its_turns(loop):
    view = first_view(loop)
    assert [loop.labels[node] for node in shown_nodes(loop, view)] == [
        "zeros",
        "model.py:1–4",
        "mm",
        "add",
        "sigmoid",
        "mul",
    ]
    assert loop.kinds[3] == "position" and 3 not in view.opened


def test_a_first_view_is_read_at_a_glance(large):
    assert 10 < visible_count(large, first_view(large)) <= 110


def test_opening_and_closing_are_inverse(large):
    view = first_view(large)
    node = next(node for node in shown_nodes(large, view) if node not in view.opened and not large.is_leaf(node))
    opened = expand(large, view, node).view
    assert visible_count(large, opened) == visible_count(large, view) + large.child_count(node)
    assert collapse(large, opened, node) == Change(view)


def test_closing_takes_what_is_open_inside_with_it(loop):
    view = expand(loop, first_view(loop), 3).view
    assert collapse(loop, view, 2).view == View(0, frozenset((0,)))
    assert collapse(loop, view, 0).view == view


def test_a_leaf_does_not_open(loop):
    view = first_view(loop)
    assert expand(loop, view, len(loop.kinds) - 1) == Change(view)


def test_more_nodes_than_stay_readable_are_refused_with_a_way_out(loop, monkeypatch):
    monkeypatch.setattr(module, "MOST_VISIBLE", 90)
    view = first_view(loop)
    change = expand(loop, view, 3)
    assert change.view == view and change.alone == 3
    assert "106 nodes" in change.message and "on its own" in change.message
    assert open_alone(loop, 3).view == View(3, frozenset((3,)))


def test_nothing_ever_shows_more_nodes_than_the_limit(large):
    view = first_view(large)
    for node in range(0, len(large.kinds), 7):
        view = expand(large, view, node).view
        assert visible_count(large, view) <= module.MOST_VISIBLE
        assert visible_count(large, reveal(large, view, node).view) <= module.MOST_VISIBLE
        assert visible_count(large, open_alone(large, node).view) <= module.MOST_VISIBLE


def test_revealing_shows_the_node(large):
    view = View(0, frozenset((0,)))
    for node in range(1, len(large.kinds), 97):
        assert node in shown_nodes(large, reveal(large, view, node).view)


def test_revealing_outside_the_picture_goes_back_to_the_whole_step(loop):
    alone = open_alone(loop, 3).view
    assert shown_place(loop, alone, 1) is None
    assert 1 in shown_nodes(loop, reveal(loop, alone, 1).view)


def test_a_hundred_turns_are_not_opened_for_the_sake_of_one(loop):
    node = node_of(loop, 41, None)
    view = reveal(loop, first_view(loop), node, through_lists=False).view
    place = shown_place(loop, view, node)
    assert loop.kinds[place] == "position" and place in shown_nodes(loop, view)


def test_what_stands_for_a_node_is_the_closed_group_it_is_in(loop):
    view = View(0, frozenset((0,)))
    assert shown_place(loop, view, 50) == 2
    assert shown_place(loop, expand(loop, view, 2).view, 50) == 3
    assert shown_place(loop, view, 0) is None


def test_ops_and_modules_have_their_node(hostile, store):
    assert hostile.op[node_of(hostile, 7, None)] == 7
    assert hostile.paths[node_of(hostile, None, "encoder.layers.1")] == "encoder.layers.1"
    assert node_of(hostile, 999, None) is None and node_of(hostile, None, "no.such") is None
    assert node_of(hostile, None, None) is None
    calls = [Call("aten::linear", 1e-6), Call("aten::t", 1e-6, parent=0), Call("aten::addmm", 5e-6, parent=0)]
    call = read_hierarchy(store, stored(store, calls).id)
    assert call.kinds[node_of(call, 0, None)] == "op"


def test_a_search_finds_groups_before_their_members(loop, hostile):
    assert [loop.kinds[node] for node in search(loop, "SIGMOID")][:2] == ["position", "op"]
    assert len(search(loop, "mm")) == 8 and search(loop, "  ") == [] and search(loop, "no such op") == []
    assert hostile.kinds[search(hostile, "layers.2")[0]] == "module"


@pytest.mark.parametrize("data", [None, [], {"root": -1, "opened": []}, {"root": 0, "opened": [10**9]},
                                  {"root": "0", "opened": []}, {"root": 0, "opened": ["x"]}, {"root": 0}])  # fmt: skip
def test_a_view_that_is_none_of_this_run_becomes_the_first_one(loop, data):
    assert read_view(loop, data) == first_view(loop)


def test_a_browser_gives_a_view_back(loop):
    view = expand(loop, first_view(loop), 3).view
    assert read_view(loop, write_view(view)) == view


def test_boxes_hold_their_children_and_nothing_else_overlaps(large, loop, hostile):
    for hierarchy in (large, loop, hostile):
        view = first_view(hierarchy)
        for node in shown_nodes(hierarchy, view)[::5]:
            view = expand(hierarchy, view, node).view
        assert_boxes_are_nested(hierarchy, make_scene(hierarchy, view))


def assert_boxes_are_nested(hierarchy, scene):
    frames = {
        node.node: (
            node.x - node.width / 2,
            node.y - node.height / 2,
            node.x + node.width / 2,
            node.y + node.height / 2,
        )
        for node in scene.nodes
    }
    siblings = defaultdict(list)
    for node, (left, top, right, bottom) in frames.items():
        parent = int(hierarchy.parent[node])
        siblings[parent].append((left, top, right, bottom))
        if parent in frames:
            outer = frames[parent]
            assert outer[0] <= left and outer[1] <= top and right <= outer[2] + 1e-6 and bottom <= outer[3] + 1e-6
    for boxes in siblings.values():
        for index, (left, top, right, bottom) in enumerate(boxes):
            for other in boxes[:index]:
                assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_edges_between_groups_are_summed_over_different_tensors(loop):
    scene = make_scene(loop, View(0, frozenset((0,))))
    (edge,) = scene.edges
    assert (edge.source, edge.target, edge.tensors, edge.nbytes, edge.backward) == (1, 2, 1, 512, False)
    body = {(edge.source, edge.target): edge for edge in make_scene(loop, first_view(loop)).edges}
    places = [node for node in shown_nodes(loop, first_view(loop)) if loop.kinds[node] == "position"]
    assert body[places[0], places[1]].tensors == 100 and body[places[0], places[1]].nbytes == 100 * 512
    back = body[places[3], places[0]]
    assert back.backward and back.tensors == 99


def test_one_tensor_that_several_ops_of_a_group_read_counts_once(store):
    calls = [Call("aten::mm", 1e-6, scope="a"), *[Call("aten::add", 1e-6, reads=(0,), scope="b")] * 3]
    hierarchy = read_hierarchy(store, stored(store, calls).id)
    (edge,) = make_scene(hierarchy, View(0, frozenset((0,)))).edges
    assert (edge.tensors, edge.nbytes) == (1, 512)


def test_an_open_list_is_one_end_of_its_edges(loop):
    scene = make_scene(loop, expand(loop, first_view(loop), 3).view)
    assert len(scene.edges) == len(make_scene(loop, first_view(loop)).edges)
    assert 3 in {edge.source for edge in scene.edges}


def test_edges_leave_an_open_box_at_its_side(large):
    view = first_view(large)
    scene = make_scene(large, view)
    boxes = {node.node: node for node in scene.nodes if node.opened}
    inner = [edge for edge in scene.edges if edge.bends and large.parent[edge.source] in boxes
             and large.parent[edge.source] != large.parent[edge.target]]  # fmt: skip
    assert inner
    for edge in inner:
        ys = [y for _, y in edge.bends]
        assert ys == sorted(ys) or edge.backward


def test_the_hottest_leaf_gets_the_hottest_colour(loop):
    scene = make_scene(loop, first_view(loop))
    data = [item["data"] for item in elements(loop, scene) if "node" in item["data"] and item["classes"] != "box"]
    hottest = [item for item in data if item["light"] == heat_colour(LIGHT_RAMP, 1.0)]
    assert [item["text"].splitlines()[0] for item in hottest] == ["mm  ×100"]


def test_a_hostile_name_is_text_and_nothing_more(hostile):
    view = everything(hostile)
    data = [item["data"] for item in elements(hostile, make_scene(hostile, view))]
    texts = [item["hint"] for item in data if "<script>" in item["hint"]]
    assert texts and all("\x1b" not in text for text in texts)
    assert HOSTILE not in {item["id"] for item in data}


def test_text_stands_out_on_every_heat():
    for ramp in (LIGHT_RAMP, DARK_RAMP):
        for step in range(101):
            ground = heat_colour(ramp, step / 100)
            light, dark = sorted((luminance(ground), luminance(readable_ink(ground))), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ground, step)


def test_heat_rises_with_the_share():
    for ramp, way in ((LIGHT_RAMP, -1), (DARK_RAMP, 1)):
        lights = [way * luminance(heat_colour(ramp, step / 20)) for step in range(21)]
        assert lights == sorted(lights)


def test_bends_are_where_they_were_when_drawn_from_the_line_between_the_ends():
    source, target, bends = (10.0, 20.0), (110.0, 320.0), ((40.0, 60.0), (150.0, 200.0))
    weights, distances = relative(bends, source, target)
    length = math.hypot(100.0, 300.0)
    normal = (-300.0 / length, 100.0 / length)
    for bend, along, beside in zip(bends, weights.split(), distances.split(), strict=True):
        x = source[0] + 100.0 * float(along) + normal[0] * float(beside)
        y = source[1] + 300.0 * float(along) + normal[1] * float(beside)
        assert (x, y) == pytest.approx(bend, abs=0.1)


def test_both_schemes_style_the_same_things():
    light, dark = stylesheet(False), stylesheet(True)
    assert [rule["selector"] for rule in light] == [rule["selector"] for rule in dark]
    assert light != dark


def test_a_run_without_ops_has_an_empty_picture(store):
    hierarchy = read_hierarchy(store, stored(store, []).id)
    scene = make_scene(hierarchy, first_view(hierarchy))
    assert scene.nodes == () and scene.edges == ()
