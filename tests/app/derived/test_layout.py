"""The layered layout: what must hold of any graph, and what makes one readable."""

import random
from itertools import pairwise

import pytest

from app.derived.layout import layers
from app.derived.layout.coordinates import assign_coordinates
from app.derived.layout.layered import NODE_GAP, WIDEST_LAYER, lay_out
from app.derived.layout.layers import add_dummies, assign_layers
from app.derived.layout.ordering import crossings, order_layers


def random_graph(seed, nodes, longest=9):
    generator = random.Random(seed)
    edges = {
        (max(0, node - generator.randint(1, longest)), node)
        for node in range(1, nodes)
        for _ in range(generator.randint(0, 3))
    }
    return sorted(edges)


@pytest.mark.parametrize("seed", range(8))
def test_every_edge_leads_down_and_dummies_fill_the_layers_between(seed):
    nodes = 61
    edges = random_graph(seed, nodes)
    layer = assign_layers(nodes, edges)
    graph = add_dummies(layer, edges)
    assert all(layer[source] < layer[target] for source, target in edges)
    assert all(graph.layer[target] == graph.layer[source] + 1 for source, target in graph.links)
    for (source, target), chain in zip(edges, graph.chains, strict=True):
        assert chain is not None
        assert all(link in graph.links for link in pairwise((source, *chain, target)))


def test_a_node_moves_towards_where_its_edges_are():
    # 0 is read only by 4, at the end of a chain: it stands beside 3, not at the top.
    assert assign_layers(5, [(1, 2), (2, 3), (3, 4), (0, 4)]) == [2, 0, 1, 2, 3]


def test_edges_of_one_source_share_their_dummies():
    layer = [0, 1, 2, 3, 4]
    graph = add_dummies(layer, [(0, 1), (1, 2), (2, 3), (3, 4), (0, 3), (0, 4)])
    assert graph.chains[4] == graph.chains[5][:2]
    assert len(graph.layer) == 5 + 3


def test_the_longest_edges_are_drawn_straight_when_there_would_be_too_many_dummies(monkeypatch):
    monkeypatch.setattr(layers, "MOST_DUMMIES", 3)
    chain = [(node, node + 1) for node in range(19)]
    graph = add_dummies(list(range(20)), [*chain, (0, 3), (1, 19)])
    assert graph.chains[-2] is not None and graph.chains[-1] is None
    assert len(graph.layer) == 22


@pytest.mark.parametrize("seed", range(8))
def test_ordering_never_adds_crossings_and_keeps_every_vertex(seed):
    nodes = 71
    edges = random_graph(seed, nodes)
    graph = add_dummies(assign_layers(nodes, edges), edges)
    order = order_layers(graph)
    assert sorted(vertex for layer in order for vertex in layer) == list(range(len(graph.layer)))
    unordered = [[] for _ in order]
    for vertex, level in enumerate(graph.layer):
        unordered[level].append(vertex)
    assert crossings(graph, order) <= crossings(graph, unordered)


def test_crossings_are_counted_as_by_looking_at_each_pair():
    edges = random_graph(3, 40)
    graph = add_dummies(assign_layers(40, edges), edges)
    order = order_layers(graph)
    place = {vertex: position for layer in order for position, vertex in enumerate(layer)}
    slow = sum(
        (place[a] - place[c]) * (place[b] - place[d]) < 0
        for index, (a, b) in enumerate(graph.links)
        for c, d in graph.links[:index]
        if graph.layer[a] == graph.layer[c]
    )
    assert crossings(graph, order) == slow


def test_a_graph_that_can_be_drawn_without_crossings_is():
    # Two ladders, their vertices numbered so that the first order crosses.
    edges = [(0, 3), (1, 2), (2, 5), (3, 4), (4, 7), (5, 6)]
    graph = add_dummies(assign_layers(8, edges), edges)
    assert crossings(graph, order_layers(graph)) == 0


@pytest.mark.parametrize("seed", range(8))
def test_nodes_of_a_layer_keep_their_distance(seed):
    generator = random.Random(seed)
    nodes = 67
    edges = random_graph(seed, nodes)
    graph = add_dummies(assign_layers(nodes, edges), edges)
    order = order_layers(graph)
    widths = [float(generator.randint(40, 400)) for _ in range(nodes)] + [0.0] * (len(graph.layer) - nodes)
    x = assign_coordinates(graph, order, widths, 20.0, 10.0)
    for layer in order:
        for left, right in pairwise(layer):
            gap = 20.0 if left < nodes and right < nodes else 10.0
            assert x[right] - x[left] >= (widths[left] + widths[right]) / 2 + gap - 1e-6
    assert min(value - width / 2 for value, width in zip(x, widths, strict=True)) == pytest.approx(0.0)


def test_a_chain_is_one_straight_line():
    placed = lay_out([(100.0, 40.0), (300.0, 50.0), (80.0, 40.0), (120.0, 40.0)], [(0, 1), (1, 2), (2, 3)])
    assert len({round(x, 6) for x, _ in placed.centres}) == 1
    assert placed.bends == [[], [], []]
    assert placed.width == 300.0


def test_a_long_edge_goes_round_what_stands_between():
    placed = lay_out([(100.0, 40.0)] * 4, [(0, 1), (1, 2), (2, 3), (0, 3)])
    bends = placed.bends[3]
    left, right = placed.centres[1][0] - 50, placed.centres[1][0] + 50
    beside = [x for x, y in bends if placed.centres[1][1] - 20 <= y <= placed.centres[2][1] + 20]
    assert beside and all(not left < x < right for x in beside)


@pytest.mark.parametrize("seed", range(6))
def test_no_boxes_overlap_whatever_their_sizes(seed):
    generator = random.Random(seed)
    nodes = 53
    sizes = [(float(generator.randint(60, 500)), float(generator.randint(30, 300))) for _ in range(nodes)]
    placed = lay_out(sizes, random_graph(seed, nodes), entering=(0, 5, 9), leaving=(40, 50))
    boxes = [
        (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        for (x, y), (width, height) in zip(placed.centres, sizes, strict=True)
    ]
    for index, (left, top, right, bottom) in enumerate(boxes):
        assert left >= -1e-6 and top >= -1e-6 and right <= placed.width + 1e-6 and bottom <= placed.height + 1e-6
        for other in boxes[:index]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            assert apart, (boxes[index], other)


def test_a_loop_has_an_edge_that_leads_up():
    placed = lay_out([(100.0, 40.0)] * 3, [(0, 1), (1, 2), (2, 0)])
    assert placed.backward == [False, False, True]
    assert placed.centres[0][1] < placed.centres[1][1] < placed.centres[2][1]


def test_data_from_outside_enters_at_the_top_and_leaves_at_the_bottom():
    placed = lay_out([(100.0, 40.0)] * 3, [(0, 1), (1, 2)], entering=(1,), leaving=(1, 2))
    assert placed.entries[1][0][1] == 0.0
    assert {way[-1][1] for way in placed.exits.values()} == {placed.height}
    ys = [y for _, y in placed.entries[1]]
    assert ys == sorted(ys)


def test_nodes_without_edges_stand_in_rows():
    placed = lay_out([(100.0, 40.0)] * 30, [])
    assert 1 < len({y for _, y in placed.centres}) < 30
    assert placed.centres == sorted(placed.centres, key=lambda centre: (centre[1], centre[0]))
    assert lay_out([], []).centres == []


def test_a_star_does_not_grow_wider_than_a_layer_may():
    sizes = [(200.0, 40.0)] * 81
    placed = lay_out(sizes, [(0, node) for node in range(1, 81)])
    assert placed.width <= WIDEST_LAYER + 200.0 + NODE_GAP * 8


def test_the_same_graph_is_laid_out_the_same():
    sizes = [(100.0 + node % 7, 40.0) for node in range(60)]
    edges = random_graph(5, 60)
    assert lay_out(sizes, edges, (1,), (2,)) == lay_out(sizes, edges, (1,), (2,))
