"""A report as components says all that its HTML says, and shows text as text."""

import json

from app.components.document import MOST_ROWS, document
from app.reports.document import Document, Section, Table
from app.reports.experiment_document import experiment_document
from app.reports.run_document import run_document
from app.reports.write import run_figures
from tests.app.values import HOSTILE, report_candidate, report_diagnosis, report_experiment, report_ops, report_run


def texts(parts):
    return json.dumps(
        [part.to_plotly_json() for part in parts], default=lambda item: item.to_plotly_json(), ensure_ascii=False
    )


def made():
    run = report_run()
    return run_document(run, report_diagnosis(run), report_ops()), run_figures(run, report_ops())


def test_every_section_fact_cell_and_note_is_there():
    run = report_run()
    candidate = report_candidate(run)
    for value in (made()[0], experiment_document(report_experiment(run, candidate), candidate, run)):
        shown = texts(document(value, {}))
        for section in value.sections:
            rows = [cell for table in section.tables for row in table.rows[:MOST_ROWS] for cell in row]
            items = [fact.value for item in section.items for fact in item.facts]
            said = [section.title, *(fact.value for fact in section.facts), *rows, *items, *section.notes]
            assert [text for text in said if json.dumps(text, ensure_ascii=False) not in shown] == []


def test_every_figure_has_its_place():
    value, figures = made()
    shown = texts(document(value, figures))
    assert all(f'"figure": "{name}"' in shown for name in figures)


def test_names_from_a_trace_stay_text():
    value, figures = made()
    parts = document(value, figures)
    kinds = {type(item).__name__ for part in parts for item in part._traverse()}
    assert HOSTILE in str(parts[0]) or json.dumps(HOSTILE, ensure_ascii=False) in texts(parts)
    assert not kinds & {"Markdown", "Iframe", "Script"}


def test_a_long_table_says_what_it_leaves_out():
    rows = tuple((f"row {index}", str(index)) for index in range(MOST_ROWS + 5))
    section = Section("s", "Rows", tables=(Table("All rows", ("Name", "Number"), rows, ("Number",)),))
    shown = texts(document(Document("run", "run-1", "t", "s", "2026", (), (section,), ()), {}))
    assert f"the first {MOST_ROWS} of {MOST_ROWS + 5}" in shown and f"row {MOST_ROWS}" not in shown


def test_only_a_published_report_leads_to_remarks():
    value, _ = made()
    assert "anchor=finding" in texts(document(value, {}, "report-1")) and "anchor=" not in texts(document(value, {}))
