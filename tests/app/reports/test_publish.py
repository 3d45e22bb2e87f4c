"""Published reports: whole, readable again, and each one its own."""

import pytest

from analyzer.errors import HotbenchError, RecordError
from app import workbench
from app.reports.publish import checked_title, load_published
from app.reports.render import render_markdown
from app.store import open_store


@pytest.fixture
def store(stored):
    with open_store(stored[0]) as opened:
        yield opened


@pytest.mark.parametrize("position", [1, 3])
def test_what_is_published_is_what_is_read_again(stored, store, position):
    value = stored[position].id
    document, figures = workbench.read_document(store, value)
    entry = workbench.publish(store, value, "ada", "A title")
    published = load_published(store.folder(entry))
    assert published.document == document and set(published.figures) == set(figures)
    assert (published.about.title, published.about.value, published.about.published_by) == ("A title", value, "ada")
    assert (store.folder(entry) / "report.md").read_text() == render_markdown(document)


def test_publishing_again_is_another_report(stored, store):
    first, second = (workbench.publish(store, stored[3].id, user) for user in ("ada", "bob"))
    assert first.id != second.id and len(store.entries("report")) == 2


def test_a_report_without_a_title_takes_the_values_own(stored, store):
    document, _ = workbench.read_document(store, stored[3].id)
    assert workbench.publish(store, stored[3].id, "ada", "  ").summary["title"] == document.title


def test_a_title_is_one_line_of_bounded_length():
    assert checked_title("two\n lines", "x") == "two lines"
    with pytest.raises(HotbenchError, match="201 characters"):
        checked_title("t" * 201, "x")


def test_a_missing_file_is_told_of(stored, store):
    entry = workbench.publish(store, stored[3].id, "ada")
    (store.folder(entry) / "figures.json").unlink()
    with pytest.raises(RecordError, match=r"figures\.json is missing"):
        load_published(store.folder(entry))
