import dataclasses

import pytest

from analyzer.graph import Edge, Graph, GraphError
from tests.synthetic import Call, make_run

NESTED = [
    Call("aten::linear", 1e-6),
    Call("aten::t", 1e-6, parent=0),
    Call("aten::addmm", 3e-6, parent=0),
    Call("Optimizer.step", 1e-6),
    Call("aten::add_", 2e-6, parent=3),
]


def test_an_empty_graph_holds():
    graph = Graph((), (), ()).check()
    assert list(graph.leaves()) == [] and list(graph.top_level()) == []


def test_children_leaves_and_top_level_of_a_nested_call():
    graph = make_run(NESTED).graph
    assert graph.children == ((1, 2), (), (), (4,), ())
    assert [op.index for op in graph.leaves()] == [1, 2, 4]
    assert graph.top_level_of == (0, 0, 0, -1, 4)
    assert [op.name for op in graph.top_level()] == ["aten::linear", "aten::add_"]


def broken(graph, **changes):
    return dataclasses.replace(graph, **changes)


def test_contradictions_are_found():
    graph = make_run([Call("aten::a", 1e-6), Call("aten::b", 1e-6, reads=(0,))]).graph
    first, second = graph.ops
    with pytest.raises(GraphError, match="has index 1 and parent -1"):
        broken(graph, ops=(second, first)).check()
    with pytest.raises(GraphError, match="phase 'sideways'"):
        broken(graph, ops=(dataclasses.replace(first, phase="sideways"), second)).check()
    with pytest.raises(GraphError, match="names tensor 99"):
        broken(graph, ops=(dataclasses.replace(first, inputs=(99,)), second)).check()
    with pytest.raises(GraphError, match="runs backwards"):
        broken(graph, edges=(Edge(1, 0, 0),)).check()
    with pytest.raises(GraphError, match="does not read"):
        broken(graph, edges=(Edge(0, 1, 0),)).check()
    with pytest.raises(GraphError, match="leaves the graph"):
        broken(graph, edges=(Edge(0, 7, 0),)).check()
    with pytest.raises(GraphError, match="category 'odd'"):
        broken(graph, tensors=(dataclasses.replace(graph.tensors[0], category="odd"), *graph.tensors[1:])).check()
    with pytest.raises(GraphError, match="strides"):
        broken(graph, tensors=(dataclasses.replace(graph.tensors[0], strides=()), *graph.tensors[1:])).check()


def test_the_readers_of_each_tensor_are_the_targets_of_its_edges():
    graph = make_run([Call("aten::mul", 1e-6), Call("aten::add", 1e-6, (0,)), Call("aten::sub", 1e-6, (0, 1))]).graph
    written = [op.outputs[0] for op in graph.ops]
    assert graph.readers == {written[0]: (1, 2), written[1]: (2,)}
    assert Graph((), (), ()).readers == {}
