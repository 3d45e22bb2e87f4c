"""The pages of operators and of the graph: what they hold, and what their callbacks answer. No browser."""

import json

import pytest
from flask import Flask

from analyzer.errors import HotbenchError
from app.components.graph_parts import matches, node_list, ops_filter, tool
from app.components.op_details import details, findings
from app.derived.columns import read_columns
from app.derived.hierarchy import read_hierarchy
from app.derived.ops import open_ops
from app.derived.query import OpsQuery, count_rows, query_text
from app.jobs.queue import Jobs
from app.pages import graph, operators
from app.server import make_server
from app.store import open_store
from app.views.graph import first_view, search, write_view
from app.views.graph_scene import make_scene
from app.views.operators import op_details
from app.web import context as contexts
from app.web.context import Context, ServerSettings
from tests.app.derived.values import save, stored, unrolled
from tests.app.values import report_diagnosis, report_run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return (store's folder, run with awkward names, run of a loop)."""
    folder = str(tmp_path_factory.mktemp("pages") / "store")
    with open_store(folder) as store:
        return folder, save(store, report_run()).id, stored(store, unrolled(100), lines=4).id


@pytest.fixture
def store(place):
    """Yield the store, inside a request."""
    with open_store(place[0]) as opened:
        flask = Flask("page")
        contexts.install(Context(ServerSettings(), opened, Jobs(opened.database)), flask.extensions)
        with flask.test_request_context("http://127.0.0.1:8050/"):
            yield opened


@pytest.fixture(scope="module")
def answer(place):
    """Return a function that sends a callback as the page does, and gives what it answers."""
    server = make_server(ServerSettings(store=place[0]), jobs_run=False)
    client = server.flask.test_client()
    known = {item["output"]: item for item in server.dash._callback_list}

    def ask(outputs, inputs, states, changed):
        output = next(text for text in known if all(part in text for part in outputs))
        item = known[output]
        values = {**inputs, **states}

        def filled(parts):
            return [{**part, "value": values.get(f"{part['id']}.{part['property']}")} for part in parts]

        shape = [
            {"id": part.rpartition(".")[0], "property": part.rpartition(".")[2]}
            for part in output.strip(".").split("...")
        ]
        body = {
            "output": output,
            "outputs": shape if output.startswith("..") else shape[0],
            "inputs": filled(item["inputs"]),
            "state": filled(item["state"]),
            "changedPropIds": [changed],
        }
        response = client.post("/_dash-update-component", json=body, base_url="http://127.0.0.1:8050")
        assert response.status_code == 200, response.get_data(as_text=True)
        return response.get_json()["response"]

    yield ask
    server.stop()


def text(component):
    return json.dumps(component.to_plotly_json(), default=lambda item: item.to_plotly_json(), ensure_ascii=False)


def ids(component):
    return {item.id for item in component._traverse() if isinstance(getattr(item, "id", None), str)}


def test_without_a_run_both_pages_say_what_to_do(store):
    for page in (operators, graph):
        assert "No run yet" in text(page.layout({}))


def test_the_page_of_operators_holds_what_its_callbacks_name(store, place):
    layout = operators.layout({"run": place[1]})
    assert {"operators-grid", "operators-search", "operators-by", "operators-csv", "operators-details"} <= ids(layout)
    assert [item.order for item in layout._traverse() if getattr(item, "order", None) == 1] == [1]


def test_an_address_with_a_filter_sets_search_list_order_and_grid(store, place):
    query = OpsQuery("name", "mul", {"share": {"type": "greaterThan", "filter": 0.1}}, (("count", "desc"),))
    layout = operators.layout({"run": place[1], "filter": query_text(query)})
    parts = {item.id: item for item in layout._traverse() if isinstance(getattr(item, "id", None), str)}
    assert parts["operators-search"].value == "mul" and parts["operators-by"].value == "name"
    assert parts["operators-grid"].filterModel == {"share": {"type": "greaterThan", "filter": 10.0}}
    sorts = {column["field"]: column["sort"] for column in parts["operators-grid"].columnDefs if "sort" in column}
    assert sorts == {"count": "desc"}


def test_a_filter_that_cannot_be_read_is_refused(store, place):
    with pytest.raises(HotbenchError, match="cannot be read"):
        operators.layout({"run": place[1], "filter": "{"})


def test_rows_come_with_their_number_their_csv_and_the_address(answer, place):
    request = {"startRow": 0, "endRow": 5, "sortModel": [{"colId": "self_seconds", "sort": "desc"}], "filterModel": {}}
    found = answer(
        ("operators-grid.getRowsResponse",),
        {"operators-grid.getRowsRequest": request},
        {"operators-by.value": "op", "operators-search.value": "sigmoid", "operators-run.data": {"run": place[1]},
         "selection.data": {"run": place[1], "op": 4}},
        "operators-grid.getRowsRequest",
    )  # fmt: skip
    rows = found["operators-grid"]["getRowsResponse"]
    assert rows["rowCount"] == 12 and len(rows["rowData"]) == 5
    assert found["operators-count"]["children"] == "12 ops chosen by the filter"
    assert "sigmoid" in found["operators-csv"]["href"] and found["operators-clear"]["disabled"] is False
    (selection,) = [value["data"] for name, value in found.items() if name.startswith("selection")]
    assert selection["op"] == 4 and json.loads(selection["filter"])["search"] == "sigmoid"


def test_a_filter_that_the_grid_may_not_send_is_answered_in_words(answer, place):
    request = {"startRow": 0, "endRow": 5, "sortModel": [{"colId": "op; DROP TABLE ops", "sort": "asc"}]}
    found = answer(
        ("operators-grid.getRowsResponse",),
        {"operators-grid.getRowsRequest": request},
        {"operators-by.value": "op", "operators-run.data": {"run": place[1]}, "selection.data": {}},
        "operators-grid.getRowsRequest",
    )
    assert found["operators-grid"]["getRowsResponse"] == {"rowData": [], "rowCount": 0}
    assert "no column" in json.dumps(found["operators-count"])


def test_an_op_of_the_address_is_found_in_the_order_of_the_grid(answer, place):
    query = query_text(OpsQuery(sort=(("op", "desc"),)))
    found = answer(
        ("operators-place-of.data",),
        {"selection.data": {"run": place[1], "op": 58, "filter": query}},
        {"operators-run.data": {"run": place[1]}},
        "selection.data",
    )
    assert found["operators-place-of"]["data"] == {"op": 58, "place": 2}


def test_details_show_a_hostile_name_as_text(store, place):
    columns = read_columns(store, place[1])
    shown = details(place[1], op_details(columns, 60))
    assert "alert(1)" in text(shown) and "\x1b" not in text(shown)
    assert not any(getattr(item, "dangerously_allow_html", False) for item in shown._traverse())


def test_findings_of_an_op_are_predictions_with_a_link():
    diagnosis = report_diagnosis(report_run())
    shown = text(findings("run-1", [diagnosis.findings[0]]))
    assert "predicted" in shown and "finding=dispatch-bound%3A4" in shown
    assert findings("run-1", []) is None


def test_the_graph_comes_drawn_with_the_op_of_the_address_in_view(store, place):
    layout = graph.layout({"run": place[2], "op": "41"})
    parts = {item.id: item for item in layout._traverse() if isinstance(getattr(item, "id", None), str)}
    marked = parts["graph-focus"].data["node"]
    assert marked in [item["data"].get("node") for item in parts["graph-canvas"].elements]
    assert parts["graph-canvas"].layout == {"name": "preset", "fit": False}
    assert all("position" in item for item in parts["graph-canvas"].elements if "node" in item["data"])


def test_opening_a_group_draws_it_anew_and_closing_brings_it_back(answer, place, store):
    hierarchy = read_hierarchy(store, place[2])
    start = write_view(first_view(hierarchy))

    def act(kind, node, view):
        return answer(
            ("graph-view.data", "graph-canvas.elements"),
            {"graph-act.data": {"act": kind, "node": node, "at": 5}},
            {"graph-view.data": view, "graph-run.data": place[2]},
            "graph-act.data",
        )

    opened = act("toggle", 3, start)
    assert 3 in opened["graph-view"]["data"]["opened"] and opened["graph-focus"]["data"]["node"] == 3
    before = graph.elements(hierarchy, make_scene(hierarchy, first_view(hierarchy)))
    assert len(opened["graph-canvas"]["elements"]) == len(before) + 100
    closed = act("toggle", 3, opened["graph-view"]["data"])
    assert closed["graph-view"]["data"] == start
    alone = act("alone", 3, start)
    assert alone["graph-view"]["data"]["root"] == 3 and "Whole step" in json.dumps(alone["graph-crumbs"])
    assert act("reset", 0, alone["graph-view"]["data"])["graph-view"]["data"] == start
    assert "elements" not in act("toggle", 10**9, start).get("graph-canvas", {})


def test_a_picked_group_shows_its_figures_and_an_op_its_tensors(answer, place):
    def panel(picked, selection):
        found = answer(
            ("graph-details.children",),
            {"graph-picked.data": picked, "selection.data": selection, "graph-view.data": None},
            {"graph-run.data": place[2]},
            "graph-picked.data",
        )
        return json.dumps(found, ensure_ascii=False), found["graph-mark"]["data"]

    group, marked = panel({"node": 2, "op": None, "module": None}, {"op": None})
    assert "model.py:1–4" in group and "×100" in group and marked == {"node": 2}
    op, marked = panel({"node": 2, "op": None, "module": None}, {"op": 41})
    assert "op 41" in op and "Show in the graph" in op and marked["node"] != 2
    assert panel(None, {})[1] is None


def test_the_list_says_all_that_the_picture_shows(store, place):
    hierarchy = read_hierarchy(store, place[2])
    shown = text(node_list(hierarchy, make_scene(hierarchy, first_view(hierarchy))))
    assert "6 nodes shown" in shown and "mm  ×100" in shown and '"aria-label": "Open mm"' in shown


def test_a_search_lists_nodes_with_their_place_or_says_that_there_is_none(store, place):
    hierarchy = read_hierarchy(store, place[2])
    assert "in model.py:1–4" in text(matches(hierarchy, search(hierarchy, "mm"), True))
    assert "No node" in text(matches(hierarchy, [], True)) and matches(hierarchy, [], False) is None


def test_the_list_of_a_modules_ops_is_exactly_its_ops(store, place):
    hierarchy = read_hierarchy(store, place[1])
    modules = [node for node, kind in enumerate(hierarchy.kinds) if kind == "module"]
    assert modules
    for node in modules:
        with open_ops(store, place[1]) as connection:
            assert count_rows(connection, ops_filter(hierarchy, node)) == hierarchy.ops[node]


def test_a_tool_is_named_for_those_who_do_not_see_it():
    assert getattr(tool("in", "Closer", "+"), "aria-label") == "Closer"
