"""Remarks and decisions: added, never changed, refused in words where they say nothing."""

import pytest

from app import workbench
from app.store import StoreError, open_store, reviews
from tests.app.values import HOSTILE


@pytest.fixture
def store(stored):
    with open_store(stored[0]) as opened:
        yield opened


@pytest.fixture
def report(stored, store):
    return workbench.publish(store, stored[1].id, "ada").id


def test_remarks_come_back_as_written_the_oldest_first(store, report):
    written = [
        reviews.add_comment(store, report, "", "ada", "first"),
        reviews.add_comment(store, report, "op:17", "bob", f"  {HOSTILE}  "),
        reviews.add_comment(store, report, "finding:dispatch-bound:4", "ada", "two\nlines"),
    ]
    found = reviews.comments(store, report)
    assert found == tuple(written)
    assert [comment.text for comment in found] == ["first", HOSTILE.strip(), "two\nlines"]


@pytest.mark.parametrize("anchor", ["op:", "op:-1", "op:x", "module:a", "finding:", "finding:\n", "op:1 ", "f" * 300])
def test_an_anchor_of_another_form_is_refused(store, report, anchor):
    with pytest.raises(StoreError, match="no anchor"):
        reviews.add_comment(store, report, anchor, "ada", "text")


@pytest.mark.parametrize(("text", "words"), [("   ", "is empty"), ("x" * 10_001, "has 10,001 characters")])
def test_an_empty_or_endless_remark_is_refused(store, report, text, words):
    with pytest.raises(StoreError, match=words):
        reviews.add_comment(store, report, "", "ada", text)
    assert reviews.comments(store, report) == ()


def test_decisions_come_back_with_their_digest(store, report):
    first = reviews.add_review(store, report, "approve", "bob", "0" * 64)
    second = reviews.add_review(store, report, "request-changes", "cleo", "", "too small a batch")
    assert reviews.reviews(store, report) == (first, second)
    assert reviews.all_reviews(store) == {report: (first, second)}


def test_a_request_for_changes_says_what_to_change(store, report):
    with pytest.raises(StoreError, match="request for changes is empty"):
        reviews.add_review(store, report, "request-changes", "bob", "")


def test_another_decision_is_refused(store, report):
    with pytest.raises(StoreError, match="choose approve or request-changes"):
        reviews.add_review(store, report, "maybe", "bob", "")


def test_only_a_report_is_discussed(stored, store):
    with pytest.raises(StoreError):
        reviews.add_comment(store, stored[1].id, "", "ada", "text")
    with pytest.raises(StoreError):
        reviews.add_review(store, stored[1].id, "approve", "ada", "")
