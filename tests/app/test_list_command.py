"""`hotbench list`, and the CSV of `hotbench show`: what the pages list, for a script."""

import csv
import dataclasses

import pytest

from analyzer.run import save_run, with_content_id
from app import workbench
from app.derived.query import OpsQuery, query_text
from app.store import keeps, open_store
from tests.app.commanding import asked, fails, run
from tests.app.values import report_diagnosis


@pytest.fixture
def place(stored, monkeypatch):
    monkeypatch.setattr(workbench, "diagnose", report_diagnosis)
    return stored[0]


@pytest.fixture
def newer(stored):
    value = with_content_id(dataclasses.replace(stored[1], name="newer.py:workload"))
    with open_store(stored[0]) as store:
        return store.save(
            "run", lambda folder: save_run(value, folder), name=value.name, created="2099-01-01T00:00:00", tags=["x"],
            summary=workbench.run_summary(value),
        ).id  # fmt: skip


def test_every_kind_is_listed_the_newest_first(capsys, place, stored, newer):
    with open_store(place) as store:
        keeps.keep(store, stored[1].id, stored[3].id, "ada")
        report = workbench.publish(store, stored[3].id, "ada").id
    data = asked(capsys, "list", "--store", place)
    assert [row["id"] for row in data["runs"]] == [newer, stored[1].id]
    (experiment,) = data["experiments"]
    assert (experiment["id"], experiment["run"], experiment["optimizers"]) == (stored[3].id, stored[1].id, ["fusion"])
    assert (experiment["verdict"], experiment["kept"]) == (stored[3].verdict, True)
    assert [(row["id"], row["standing"]) for row in data["reports"]] == [(report, "open")]
    assert data["artifacts"] == []
    out = run(capsys, "list", "--store", place)[1]
    assert all(id in out for id in (newer, stored[1].id, stored[3].id, report)) and "none yet" in out


def test_a_list_is_of_the_kinds_tag_and_number_that_are_asked_for(capsys, place, newer):
    assert set(asked(capsys, "list", "experiments", "runs", "--store", place)) == {"runs", "experiments"}
    assert [row["id"] for row in asked(capsys, "list", "--tag", "x", "--store", place)["runs"]] == [newer]
    assert [row["id"] for row in asked(capsys, "list", "runs", "--limit", "1", "--store", place)["runs"]] == [newer]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("models",), "no kind 'models' to list"), (("reports", "--tag", "x"), "--tag is about runs")],
)
def test_what_cannot_be_listed_is_one_line(capsys, place, arguments, message):
    assert message in fails(capsys, "list", *arguments, "--store", place)


def test_an_empty_store_lists_nothing(capsys, tmp_path):
    data = asked(capsys, "list", "--store", tmp_path / "empty")
    assert data == {"runs": [], "experiments": [], "artifacts": [], "reports": []}


@pytest.mark.parametrize("query", [OpsQuery(), OpsQuery(by="name", sort=(("count", "desc"),)), OpsQuery(search="tanh")])
def test_the_csv_has_the_rows_that_it_says(capsys, place, stored, tmp_path, query):
    target = tmp_path / "operators.csv"
    chosen = ["--filter", query_text(query)] if query_text(query) else []
    data = asked(capsys, "show", stored[1].id, "--csv", target, *chosen, "--store", place)
    with target.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert data == {"run": stored[1].id, "file": str(target), "rows": len(rows)} and rows
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".operators")] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--filter", "{}"), "--filter chooses the rows of a CSV"),
        (("--csv", "no/such/folder.csv"), "cannot write 'no/such/folder.csv'"),
        (("--csv", "x.csv", "--filter", "nonsense"), "the filter 'nonsense' cannot be read"),
        (("--csv", "x.csv", "--filter", '{"sort":[["nothing","asc"]]}'), "there is no column 'nothing' to sort by"),
    ],
)
def test_a_csv_that_cannot_be_written_leaves_nothing(capsys, place, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, "show", "latest", *arguments, "--store", place)
    assert not (tmp_path / "x.csv").exists()
