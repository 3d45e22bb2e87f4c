"""Ops as CSV: exactly the chosen rows, harmless in a spreadsheet."""

import csv
import io
from urllib.parse import quote

import pytest

from app.derived.ops_csv import cell
from app.derived.query import OpsQuery, query_text
from app.server import make_server
from app.store import open_store
from app.web.context import ServerSettings
from tests.app.derived.values import save, stored
from tests.app.values import HOSTILE, report_run
from tests.synthetic import Call


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Return (run's id, id of one whose names are formulas, client of a server over both)."""
    place = str(tmp_path_factory.mktemp("downloads") / "store")
    with open_store(place) as store:
        run = save(store, report_run()).id
        formulas = stored(store, [Call("=1+1", 1e-6), Call("aten::mm", 2e-6), Call("@SUM(A1)", 3e-6)] * 2000).id
    server = make_server(ServerSettings(store=place), jobs_run=False)
    yield run, formulas, server.flask.test_client()
    server.stop()


def fetch(served, run, query=None):
    text = f"?filter={quote(query_text(query))}" if query else ""
    answer = served[2].get(f"/api/runs/{run}/operators.csv{text}", base_url="http://127.0.0.1:8050")
    rows = list(csv.reader(io.StringIO(answer.get_data(as_text=True))))
    return answer, rows


def test_every_row_is_there_and_counted(served):
    answer, rows = fetch(served, served[0])
    assert answer.status_code == 200 and answer.mimetype == "text/csv"
    assert answer.headers["X-Row-Count"] == "61" and len(rows) == 62
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{served[0]}-operators.csv"'
    assert rows[0][:3] == ["op", "name", "module"]
    assert HOSTILE in {row[1] for row in rows}


def test_the_rows_are_those_of_the_filter_in_its_order(served):
    query = OpsQuery("op", "sigmoid", {"self_seconds": {"type": "greaterThan", "filter": 9.5e-6}}, (("op", "desc"),))
    answer, rows = fetch(served, served[0], query)
    ops = [int(row[0]) for row in rows[1:]]
    assert answer.headers["X-Row-Count"] == str(len(ops)) and ops == sorted(ops, reverse=True) and ops
    assert {row[1] for row in rows[1:]} == {"aten::sigmoid"}


def test_a_long_list_comes_whole_and_no_cell_is_a_formula(served):
    answer, rows = fetch(served, served[1])
    assert len(rows) == 6001 and answer.headers["X-Row-Count"] == "6000"
    names = {row[1] for row in rows[1:]}
    assert names == {"'=1+1", "aten::mm", "'@SUM(A1)"}


def test_the_list_of_names_is_a_csv_too(served):
    _, rows = fetch(served, served[1], OpsQuery("name"))
    assert [row[:2] for row in rows[1:]] == [["'@SUM(A1)", "2000"], ["aten::mm", "2000"], ["'=1+1", "2000"]]


@pytest.mark.parametrize("text", ["=A1", "+1", "-1", "@x", " =A1", "\t=A1", "\rx", "\n=x", "\tx"])
def test_what_a_spreadsheet_would_run_gets_a_quote(text):
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["aten::mm", "", "a=b", -1.5, 0, None])
def test_other_values_stay_as_they_are(value):
    assert cell(value) == value


@pytest.mark.parametrize("path", ["run-ffffffffffff/operators.csv", "..%2f..%2fetc/operators.csv"])
def test_a_run_that_there_is_not_is_refused_in_words(served, path):
    answer = served[2].get(f"/api/runs/{path}", base_url="http://127.0.0.1:8050")
    assert 400 <= answer.status_code < 500 and "Traceback" not in answer.get_data(as_text=True)


@pytest.mark.parametrize("text", ["{", '{"sort":[["nothing","asc"]]}', '{"filters":{"x":{"type":"blank"}}}'])
def test_a_filter_that_cannot_be_read_is_refused_in_words(served, text):
    answer = served[2].get(
        f"/api/runs/{served[0]}/operators.csv?filter={quote(text)}", base_url="http://127.0.0.1:8050"
    )
    assert answer.status_code == 400 and "clear" in answer.get_data(as_text=True)
