"""The table of ops and what can be asked of it."""

import math

import pytest

from analyzer.errors import HotbenchError
from app.derived.ops import open_ops
from app.derived.query import OpsQuery, columns_of, count_rows, position_of, query_text, read_query, rows
from app.store import open_store
from tests.app.derived.values import save, stored, unrolled
from tests.app.values import HOSTILE, report_run


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Return (run, connection) of the run with awkward names."""
    with open_store(str(tmp_path_factory.mktemp("ops") / "store")) as store:
        run = save(store, report_run())
        with open_ops(store, run.id) as connection:
            yield run, connection


def ask(table, query, start=0, limit=None):
    return [dict(row) for row in rows(table[1], query, start, limit)]


def test_each_op_is_one_row_with_its_figures(table):
    run, _ = table
    found = ask(table, OpsQuery())
    assert [row["op"] for row in found] == list(range(61))
    assert [row["name"] for row in found] == [op.name for op in run.graph.ops]
    assert math.isclose(sum(row["share"] for row in found), 1.0)
    first, op = found[0], run.graph.ops[0]
    assert first["self_seconds"] == op.self_seconds.median
    assert first["spread_seconds"] == pytest.approx(op.self_seconds.high - op.self_seconds.low)
    assert first["flop_rate"] == pytest.approx(op.flops / op.self_seconds.median)
    assert (first["dtype"], first["shape"], first["kernels"], first["device_seconds"]) == ("float32", "[129]", 0, None)


def test_rows_come_sorted_by_several_columns_and_page_by_page(table):
    query = OpsQuery(sort=(("name", "asc"), ("self_seconds", "desc")))
    found = ask(table, query)
    keys = [(row["name"], -row["self_seconds"], row["op"]) for row in found]
    assert keys == sorted(keys)
    assert ask(table, query, 20, 7) == found[20:27]
    assert all(position_of(table[1], query, row["op"]) == place for place, row in enumerate(found))


@pytest.mark.parametrize(
    ("model", "holds"),
    [
        ({"type": "contains", "filter": "MUL"}, lambda name: "mul" in name),
        ({"type": "notContains", "filter": "mul"}, lambda name: "mul" not in name),
        ({"type": "equals", "filter": "aten::add"}, lambda name: name == "aten::add"),
        ({"type": "notEqual", "filter": "aten::add"}, lambda name: name != "aten::add"),
        ({"type": "startsWith", "filter": "aten::ad"}, lambda name: name.startswith("aten::ad")),
        ({"type": "endsWith", "filter": "h"}, lambda name: name.endswith("h")),
        ({"type": "contains", "filter": "%"}, lambda name: "%" in name),
        ({"type": "contains", "filter": "_"}, lambda name: "_" in name),
        ({"type": "contains", "filter": "' OR 1=1 --"}, lambda name: False),
        ({"type": "equals", "filter": HOSTILE}, lambda name: name == HOSTILE),
        (
            {"operator": "OR", "conditions": [{"type": "equals", "filter": "aten::mul"},
                                              {"type": "equals", "filter": "aten::add"}]},
            lambda name: name in ("aten::mul", "aten::add"),
        ),
    ],
)  # fmt: skip
def test_a_text_filter_chooses_what_it_says(table, model, holds):
    query = OpsQuery(filters={"name": model})
    found = [row["name"] for row in ask(table, query)]
    assert found == [op.name for op in table[0].graph.ops if holds(op.name)]
    assert count_rows(table[1], query) == len(found)


@pytest.mark.parametrize(
    ("model", "holds"),
    [
        ({"type": "greaterThan", "filter": 9e-6}, lambda seconds: seconds > 9e-6),
        ({"type": "lessThanOrEqual", "filter": 6e-6}, lambda seconds: seconds <= 6e-6),
        ({"type": "inRange", "filter": 6e-6, "filterTo": 9e-6}, lambda seconds: 6e-6 <= seconds <= 9e-6),
        ({"type": "blank"}, lambda seconds: False),
        ({"operator": "AND", "conditions": [{"type": "greaterThan", "filter": 5e-6},
                                            {"type": "lessThan", "filter": 8e-6}]},
         lambda seconds: 5e-6 < seconds < 8e-6),
    ],
)  # fmt: skip
def test_a_number_filter_chooses_what_it_says(table, model, holds):
    found = [row["op"] for row in ask(table, OpsQuery(filters={"self_seconds": model}))]
    assert found == [op.index for op in table[0].graph.ops if holds(op.self_seconds.median)]


def test_a_search_looks_at_name_module_and_line(table):
    ops = table[0].graph.ops
    for text in ("sigmoid", "layers.1", "model.py:4"):
        found = [row["op"] for row in ask(table, OpsQuery(search=text))]
        assert found == [op.index for op in ops if text in op.name or text in op.scope or text in op.source]
        assert found


def test_the_list_of_names_sums_up_the_ops(table):
    ops = table[0].graph.ops
    found = ask(table, OpsQuery("name"))
    assert found[0]["name"] == "aten::addmm"
    for row in found:
        same = [op for op in ops if op.name == row["name"]]
        assert row["count"] == len(same) and row["bytes_moved"] == sum(op.bytes_moved for op in same)
        assert row["self_seconds"] == pytest.approx(sum(op.self_seconds.median for op in same))
    few = ask(table, OpsQuery("name", filters={"count": {"type": "lessThan", "filter": 5}}))
    assert [row["name"] for row in few] == [HOSTILE]
    in_module = ask(
        table, OpsQuery("name", filters={"module": {"type": "equals", "filter": "encoder.layers.2.attention"}})
    )
    assert sum(row["count"] for row in in_module) == 10
    assert position_of(table[1], OpsQuery("name"), 3) is None


@pytest.mark.parametrize(
    "query",
    [
        OpsQuery(filters={"name; DROP TABLE ops": {"type": "contains", "filter": "x"}}),
        OpsQuery(filters={"name": {"type": "regex", "filter": "x"}}),
        OpsQuery(filters={"name": {"type": "contains", "filter": 3}}),
        OpsQuery(filters={"name": {"type": "contains", "filter": "x" * 401}}),
        OpsQuery(filters={"self_seconds": {"type": "greaterThan", "filter": "1; DROP"}}),
        OpsQuery(filters={"self_seconds": {"type": "inRange", "filter": 1.0}}),
        OpsQuery(filters={"self_seconds": {"type": "greaterThan", "filter": True}}),
        OpsQuery(filters={"name": []}),
        OpsQuery(filters={"name": {"operator": "OR", "conditions": []}}),
        OpsQuery(filters={"name": {"operator": "OR", "conditions": [{"type": "blank"}] * 21}}),
        OpsQuery(filters={"name": {"operator": "OR", "conditions": ["x"]}}),
        OpsQuery(sort=(("self_seconds; DROP TABLE ops", "desc"),)),
        OpsQuery("name", filters={"op": {"type": "equals", "filter": 1}}),
        OpsQuery("name", sort=(("module", "asc"),)),
    ],
)
def test_what_no_column_has_is_refused_in_one_line(table, query):
    with pytest.raises(HotbenchError) as refused:
        ask(table, query)
    assert "\n" not in str(refused.value) and "clear" in str(refused.value)
    assert count_rows(table[1], OpsQuery()) == 61


def test_an_address_brings_a_query_back():
    for query in (
        OpsQuery(),
        OpsQuery(
            "name", "a&b=%", {"share": {"type": "greaterThan", "filter": 0.1}}, (("share", "desc"), ("name", "asc"))
        ),
    ):
        assert read_query(query_text(query)) == query
    assert query_text(OpsQuery()) == "" and read_query(None) == OpsQuery()


@pytest.mark.parametrize(
    "text", ["{", "[]", "3", '{"by":"x"}', '{"search":3}', '{"filters":[]}', '{"sort":[3]}', '{"sort":5}']
)
def test_an_address_that_holds_no_query_is_refused(text):
    with pytest.raises(HotbenchError, match="cannot be read"):
        read_query(text)


def test_columns_are_those_of_the_rows(table):
    for query in (OpsQuery(), OpsQuery("name")):
        assert tuple(ask(table, query, 0, 1)[0]) == columns_of(query)


def test_a_run_without_ops_has_an_empty_table(tmp_path):
    with open_store(str(tmp_path / "store")) as store:
        run = stored(store, [])
        with open_ops(store, run.id) as connection:
            assert count_rows(connection, OpsQuery()) == count_rows(connection, OpsQuery("name")) == 0


def test_the_table_is_made_anew_after_it_was_deleted(tmp_path):
    with open_store(str(tmp_path / "store")) as store:
        run = stored(store, unrolled(3))
        with open_ops(store, run.id) as connection:
            path = connection.execute("PRAGMA database_list").fetchone()[2]
        (tmp_path / "store" / "derived").rename(tmp_path / "gone")
        with open_ops(store, run.id) as connection:
            assert count_rows(connection, OpsQuery()) == 13
            assert connection.execute("PRAGMA database_list").fetchone()[2] == path
