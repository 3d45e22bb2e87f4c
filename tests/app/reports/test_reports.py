"""Reports say what the values say, in both forms, and a hostile name stays text."""

import difflib
import html.parser
import itertools
import json
import re

import pytest

from app.reports.document import PREDICTED
from app.reports.experiment_document import experiment_document
from app.reports.render import render_html, render_markdown
from app.reports.run_document import run_document
from app.reports.write import proof_figures, run_figures
from tests.app.reports.golden import golden_reports
from tests.app.values import HOSTILE, report_candidate, report_diagnosis, report_experiment, report_ops, report_run
from tests.golden import FOLDER
from tests.synthetic import make_run


class Page(html.parser.HTMLParser):
    """Collects elements, headings and text, as a browser's parser sees them."""

    VOID = frozenset({"meta", "link", "br", "path", "img"})

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words, self.unclosed = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)


@pytest.fixture(scope="module")
def run():
    return report_run()


@pytest.fixture(scope="module")
def documents(run):
    candidate = report_candidate(run)
    experiment = report_experiment(run, candidate)
    return {
        "run": (run_document(run, report_diagnosis(run), report_ops()), run_figures(run, report_ops())),
        "experiment": (experiment_document(experiment, candidate, run), proof_figures(experiment, candidate)),
    }


@pytest.mark.parametrize("name", sorted(golden_reports()))
def test_a_report_equals_its_golden_file(name):
    expected, found = (FOLDER / name).read_text(encoding="utf-8"), golden_reports()[name]
    difference = "\n".join(
        difflib.unified_diff(expected.splitlines(), found.splitlines(), "golden", "now", lineterm="")
    )
    assert not difference, f"read the difference, then `make golden`:\n{difference}"


@pytest.mark.parametrize("kind", ["run", "experiment"])
def test_every_fact_and_row_is_in_both_forms(documents, kind):
    document, figures = documents[kind]
    page = "".join(Page(render_html(document, figures, "")).words)
    markdown = re.sub(r"\\(.)", r"\1", render_markdown(document))
    facts = [*document.cards, *(fact for section in document.sections for fact in section.facts)]
    facts += [fact for section in document.sections for item in section.items for fact in item.facts]
    texts = [text for fact in facts for text in (fact.label, fact.value, fact.detail)]
    texts += [cell for section in document.sections for table in section.tables for row in table.rows for cell in row]
    texts += [note for section in document.sections for note in section.notes]
    for text in texts:
        shown = text.replace("\x1b", "�").strip()
        assert shown in page and shown in markdown


@pytest.mark.parametrize("kind", ["run", "experiment"])
def test_a_hostile_name_makes_no_element_and_no_escape(documents, kind):
    document, figures = documents[kind]
    text = render_html(document, figures, "")
    page = Page(text)
    assert sum(tag == "script" for tag, _ in page.elements) == 3
    assert all(tag != "a" or attributes["href"] == "#content" for tag, attributes in page.elements)
    assert "\x1b" not in text and "\x1b" not in render_markdown(document)
    assert not re.search(r"(?<!\\)<script", render_markdown(document))
    data = json.loads(re.search(r'id="report-data">(.*?)</script>', text, re.DOTALL).group(1))
    assert set(data["figures"]) == set(figures) and "<script" not in json.dumps(data["figures"])


def test_a_hostile_name_keeps_markdown_tables_whole(documents):
    for document, _ in documents.values():
        lines = render_markdown(document).splitlines()
        for position, line in enumerate(lines):
            if line.startswith("| ---"):
                columns = line.count("|")
                for row in (lines[position - 1], *_rows_below(lines, position)):
                    assert len(re.findall(r"(?<!\\)\|", row)) == columns


def _rows_below(lines, position):
    for line in lines[position + 1 :]:
        if not line.startswith("|"):
            return
        yield line


@pytest.mark.parametrize("kind", ["run", "experiment"])
def test_a_page_is_accessible_in_its_structure(documents, kind):
    document, figures = documents[kind]
    page = Page(render_html(document, figures, ""))
    tags = [tag for tag, _ in page.elements]
    assert ("html", {"lang": "en"}) in page.elements and tags.count("h1") == 1 and tags.count("main") == 1
    assert page.open == []
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert tags.count("caption") == tags.count("table") > 0
    assert all("scope" in attributes for tag, attributes in page.elements if tag == "th")
    assert all(attributes.get("aria-label") for tag, attributes in page.elements if tag == "figure")
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    labels = {attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes}
    assert labels <= set(names)


def test_a_page_loads_nothing_from_elsewhere(documents):
    for document, figures in documents.values():
        for _, attributes in Page(render_html(document, figures, "")).elements:
            assert not {"src", "srcset"} & set(attributes)
            assert not attributes.get("href", "#").startswith(("http", "//"))


def test_predicted_figures_are_marked_as_such(documents, run):
    for document, figures in documents.values():
        page = render_html(document, figures, "")
        facts = [fact for section in document.sections for fact in section.facts]
        facts += [fact for section in document.sections for item in section.items for fact in item.facts]
        predicted = [fact for fact in facts if fact.origin == PREDICTED]
        assert predicted and page.count('<span class="origin predicted">predicted</span>') >= len(predicted)


def test_every_figure_has_a_place_and_every_place_a_figure(documents):
    for document, figures in documents.values():
        assert {name for section in document.sections for name in section.figures} == set(figures)


def test_an_experiment_that_compares_two_runs_needs_no_candidate(run):
    candidate = report_candidate(run)
    experiment = report_experiment(run, candidate)
    document = experiment_document(experiment, None, run)
    assert "hotbench optimize" not in render_markdown(document)
    assert "Predicted speedup" not in render_html(document, proof_figures(experiment, None), "")


def test_an_empty_run_has_a_report_too():
    run = make_run([])
    diagnosis = report_diagnosis(run)
    document = run_document(run, type(diagnosis)("diagnosis-0", run.id, ()), [])
    page = Page(render_html(document, run_figures(run, []), ""))
    assert "0 ops" in page.words and any("No rule sees a hot spot" in text for text in page.words)


def test_the_hostile_name_is_hostile():
    assert "</script>" in HOSTILE and "\x1b" in HOSTILE and "|" in HOSTILE
