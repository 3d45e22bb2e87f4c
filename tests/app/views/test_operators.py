"""Rows for people, filters in their units, and what is known of one op."""

import dataclasses

import pytest

from analyzer.errors import HotbenchError, RecordError
from analyzer.graph import Graph
from app.derived.columns import read_columns
from app.derived.query import OpsQuery
from app.store import open_store
from app.views.operators import (
    MOST_BLOCK_ROWS,
    block,
    display_row,
    for_list,
    op_details,
    requested,
    scaled,
    shown_columns,
)
from tests.app.derived.values import save
from tests.synthetic import Call, make_run


def test_a_row_is_in_the_units_of_its_headings():
    row = {"op": 1234, "name": "aten::mm\n", "self_seconds": 4.5e-5, "share": 0.0123, "flops": 2.5e6,
           "bytes_moved": 2048, "flop_rate": 5.5e10, "device_seconds": None, "spread_seconds": 0.0}  # fmt: skip
    assert display_row(row) == {
        "op": "1,234", "name": "aten::mm ", "self_seconds": "45.0", "share": "1.23", "flops": "2.50",
        "bytes_moved": "2.00", "flop_rate": "55.0", "device_seconds": "–", "spread_seconds": "0", "id": "1234",
        "raw_share": 0.0123,
    }  # fmt: skip


def test_filters_change_their_units_and_come_back():
    shown = {
        "self_seconds": {"type": "inRange", "filter": 1.5, "filterTo": 20},
        "share": {"operator": "OR", "conditions": [{"type": "lessThan", "filter": 5}, {"type": "blank"}]},
        "name": {"type": "contains", "filter": "5"},
    }
    stored = scaled(shown, to_si=True)
    assert stored["self_seconds"] == {"type": "inRange", "filter": 1.5e-6, "filterTo": 2e-5}
    assert stored["share"]["conditions"][0]["filter"] == 0.05 and stored["name"] == shown["name"]
    assert scaled(stored, to_si=False) == shown


def test_a_request_becomes_a_query():
    request = {"startRow": 100, "endRow": 200, "sortModel": [{"colId": "share", "sort": "desc"}],
               "filterModel": {"share": {"type": "greaterThan", "filter": 2}}}  # fmt: skip
    assert requested(request, "op", " mm ") == OpsQuery(
        "op", "mm", {"share": {"type": "greaterThan", "filter": 0.02}}, (("share", "desc"),)
    )
    assert block(request) == (100, 100)
    assert block({"startRow": 0, "endRow": 10**9}) == (0, MOST_BLOCK_ROWS)


@pytest.mark.parametrize("request_", [{"startRow": -1, "endRow": 5}, {"startRow": 5, "endRow": 5}, {"startRow": "0"}])
def test_impossible_rows_are_refused(request_):
    with pytest.raises(HotbenchError, match="reload the page"):
        block(request_)


def test_the_other_list_leaves_out_what_it_does_not_have():
    query = OpsQuery("op", "x", {"spread_seconds": {}, "module": {}, "share": {}}, (("op", "asc"), ("share", "desc")))
    assert for_list(query, "name") == OpsQuery("name", "x", {"module": {}, "share": {}}, (("share", "desc"),))


def test_columns_of_a_gpu_are_left_out_on_a_cpu():
    names = [column.name for column in shown_columns("op", on_device=False)]
    assert "kernels" not in names and "device_seconds" not in names
    assert "kernels" in [column.name for column in shown_columns("op", on_device=True)]


@pytest.fixture
def columns(tmp_path):
    run = make_run([Call("aten::mm", 2e-6), Call("aten::add_", 1e-6, reads=(0,)), Call("aten::t", 1e-6, reads=(0,))])
    first, second, third = run.graph.ops
    tensors = list(run.graph.tensors)
    # add_ writes in place into what mm made; t is a transposed view of it.
    made = first.outputs[0]
    tensors[second.outputs[0]] = dataclasses.replace(tensors[second.outputs[0]], storage=tensors[made].storage)
    tensors[third.outputs[0]] = dataclasses.replace(
        tensors[third.outputs[0]], storage=tensors[made].storage, shape=(16, 8), strides=(1, 16), offset=3
    )
    second = dataclasses.replace(second, mutates=(made,), arguments='[["alpha", 2]]')
    third = dataclasses.replace(third, parent=1, forward_op=0, self_seconds=None)
    run = dataclasses.replace(run, graph=Graph((first, second, third), tuple(tensors), run.graph.edges))
    with open_store(str(tmp_path / "store")) as store:
        yield read_columns(store, save(store, run).id)


def test_an_op_has_its_tensors_with_who_made_and_who_reads_them(columns):
    found = op_details(columns, 0)
    assert found.outputs[0].links == ((1, "aten::add_"), (2, "aten::t")) and found.outputs[0].more == 0
    assert found.inputs[0].category == "input" and found.inputs[0].links == ()
    assert (found.inputs[0].shape, found.inputs[0].dtype, found.inputs[0].layout) == ("[128]", "float32", "contiguous")
    assert op_details(columns, 1).inputs[0].links == ((0, "aten::mm"),)


def test_in_place_and_views_are_said(columns):
    second, third = op_details(columns, 1), op_details(columns, 2)
    assert second.inputs[0].alias == "written in place" and second.arguments == (("alpha", "2"),)
    assert second.outputs[0].alias == "shares the memory of input 1"
    assert third.outputs[0].layout == "strides [1, 16], from element 3"
    assert third.parent == (1, "aten::add_") and third.forward == (0, "aten::mm")


@pytest.mark.parametrize("index", [-1, 3, 10**9])
def test_an_op_that_there_is_not_is_refused(columns, index):
    with pytest.raises(RecordError, match=f"has no op {index}"):
        op_details(columns, index)
