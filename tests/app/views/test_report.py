"""Where a review stands, and what a remark is about."""

import pytest

from app.store import Entry
from app.store.reviews import Review
from app.views.report import (
    anchors,
    artifact_words,
    current_digest,
    read_anchor,
    report_rows,
    review_state,
)
from tests.app.values import HOSTILE, report_diagnosis, report_run

DIGEST, OTHER = "a" * 64, "b" * 64
REPORT = Entry(
    "report-1", "report", "experiment-1", "r", "2026", "0", {"published_by": "ada", "artifact_digest": DIGEST}
)


def review(author, decision="approve", digest=DIGEST, id=1):
    return Review(id, "report-1", author, "2026", decision, digest, "")


@pytest.mark.parametrize(
    ("reviews", "standing", "words"),
    [
        ([], "open", "Nobody"),
        ([review("bob")], "approved", "Approved by bob."),
        ([review("ada")], "approved", "Self-approved by ada"),
        ([review("ada"), review("bob")], "approved", "Approved by bob."),
        ([review("bob"), review("cleo", "request-changes")], "changes requested", "cleo asked"),
        ([review("bob", "request-changes"), review("bob", id=2)], "approved", "Approved by bob."),
        ([review("bob"), review("bob", "request-changes", id=2)], "changes requested", "bob asked"),
        ([review("bob", digest=OTHER)], "outdated", "another artifact"),
        ([review("bob", "request-changes", OTHER)], "outdated", "another artifact"),
        ([review("bob", digest="")], "outdated", "another artifact"),
    ],
)
def test_the_last_word_of_each_person_about_the_present_artifact_counts(reviews, standing, words):
    state = review_state(REPORT, reviews, DIGEST)
    assert state.standing == standing and words in state.words


def test_a_later_word_about_another_artifact_does_not_revive_an_earlier_one():
    state = review_state(REPORT, [review("bob"), review("bob", digest=OTHER, id=2)], DIGEST)
    assert state.standing == "outdated"


def test_each_decision_says_what_it_is_bound_to():
    views = review_state(REPORT, [review("ada"), review("bob", digest="")], DIGEST).reviews
    assert [(view.word, view.outdated) for view in views] == [("self-approved", False), ("approved", True)]
    assert views[0].about == f"artifact {DIGEST[:12]}" and "the report alone" in views[1].about


def artifact(digest, parent="experiment-1"):
    return Entry(f"artifact-{digest[:4]}", "artifact", parent, "a", "2026", digest)


def test_the_newest_artifact_of_the_reports_own_experiment_counts():
    assert current_digest(REPORT, [artifact(OTHER, "experiment-2"), artifact(DIGEST), artifact(OTHER)]) == DIGEST
    assert current_digest(REPORT, []) == ""


@pytest.mark.parametrize(
    ("published", "now", "words", "changed"),
    [
        ("", "", "about the report alone", False),
        (DIGEST, DIGEST, "the one there was at publication", False),
        ("", DIGEST, "exported after publication", True),
        (DIGEST, "", "gone from the store", True),
        (DIGEST, OTHER, "The artifact changed since publication", True),
    ],
)
def test_what_a_decision_would_be_bound_to_is_said_beforehand(published, now, words, changed):
    report = Entry("report-1", "report", "e", "r", "2026", "0", {"artifact_digest": published})
    text, found = artifact_words(report, now)
    assert words in text and found is changed


def test_the_list_tells_where_each_review_stands():
    (row,) = report_rows([REPORT, artifact(DIGEST)], {"report-1": [review("bob")]})
    assert (row.standing, row.published_by, row.value) == ("approved", "ada", "experiment-1")


def test_a_remark_can_be_about_the_whole_a_finding_or_an_op():
    run = report_run()
    found = anchors(run, report_diagnosis(run))
    values = [anchor.value for anchor in found]
    assert values[:3] == ["", "finding:dispatch-bound:4", "finding:memory-bound:9"]
    assert values[3].startswith("op:") and len(values) == len(set(values)) == 3 + len(run.graph.ops)


def test_the_ops_that_take_most_time_come_first_and_the_one_asked_for_is_there(monkeypatch):
    run = report_run()
    monkeypatch.setattr("app.views.report.MOST_OPS", 5)
    slowest = max(run.graph.ops, key=lambda op: op.self_seconds.median).index
    values = [anchor.value for anchor in anchors(run, report_diagnosis(run), "op:60")]
    assert values[1] == "op:60" and f"op:{slowest}" in values and len(values) == 9
    assert "op:999" not in [anchor.value for anchor in anchors(run, report_diagnosis(run), "op:999")]


def test_an_anchor_leads_to_where_it_is_shown():
    run = report_run()
    diagnosis = report_diagnosis(run)
    op, finding = read_anchor("op:60", run, diagnosis), read_anchor("finding:memory-bound:9", run, diagnosis)
    assert (op.path, op.query) == ("/operators", {"run": run.id, "op": "60"}) and HOSTILE in op.label
    assert (finding.path, finding.query) == ("/", {"run": run.id, "finding": "memory-bound:9"})


@pytest.mark.parametrize("value", ["op:999", "finding:gone", "module:a"])
def test_an_anchor_that_the_run_does_not_have_keeps_its_text(value):
    run = report_run()
    assert value.partition(":")[2] in read_anchor(value, run, report_diagnosis(run)).label
