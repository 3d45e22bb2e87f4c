"""The reports page: publishing, remarks, decisions, and that nothing of it can be changed afterwards."""

import json

import pytest

from analyzer.errors import HotbenchError, RecordError
from app.pages import report as page
from app.store.reviews import add_comment, comments, reviews
from app.web.access import Forbidden
from tests.app.values import HOSTILE


def texts(tree):
    return json.dumps(tree.to_plotly_json(), default=lambda item: item.to_plotly_json(), ensure_ascii=False)


def detail(entry, **query):
    return texts(page.layout({"report": entry.id, **query}))


def test_the_list_offers_every_run_and_experiment_for_publishing(desk):
    shown = texts(page.layout({}))
    assert desk.run.id in shown and desk.experiment.id in shown and "report-publish" in shown


def test_a_published_report_is_listed_and_shown_with_its_hash(desk):
    entry = desk.publish(title="For the record")
    assert "For the record" in texts(page.layout({}))
    sha256 = json.loads((desk.store.folder(entry) / "manifest.json").read_text())["files"]["report.html"]
    assert sha256 in detail(entry) and "Published by ada" in detail(entry)


def test_a_report_of_a_run_leads_to_a_remark_on_each_finding(desk):
    entry = desk.publish(desk.run.id)
    findings = page.loaded_diagnosis(desk.store, desk.run.id).findings
    assert findings and all(f"finding%3A{item.id.replace(':', '%3A')}" in detail(entry) for item in findings)


def test_a_changed_report_is_not_shown(desk):
    entry = desk.publish()
    path = desk.store.folder(entry) / "report.html"
    path.write_text(path.read_text() + "<p>and more</p>")
    with pytest.raises(RecordError, match=r"report\.html differs from its hash") as error:
        page.layout({"report": entry.id})
    assert str(desk.store.folder(entry)) not in str(error.value)


def test_a_remark_is_shown_as_text_with_a_link_to_its_op(desk):
    entry = desk.publish()
    add_comment(desk.store, entry.id, "op:5", "bob", HOSTILE)
    tree = page.layout({"report": entry.id})
    said = [item for item in tree._traverse() if getattr(item, "className", None) == "hb-said"]
    assert [item.children for item in said] == [HOSTILE]
    assert f"/operators?run={desk.run.id}&op=5" in texts(tree)


def test_the_anchor_in_the_address_is_chosen_in_the_form(desk):
    entry = desk.publish()

    def chosen(anchor):
        tree = page.layout({"report": entry.id, "anchor": anchor})
        return next(item for item in tree._traverse() if getattr(item, "id", None) == "comment-anchor").value

    assert [chosen("op:59"), chosen("op:9999"), chosen("")] == ["op:59", "whole", "whole"]


def test_an_approval_is_bound_to_the_artifact_of_that_moment(desk, as_person):
    artifact = desk.save_artifact()
    entry = desk.publish()
    as_person("bob", "editor")
    page.decide(desk.store, entry, "approve", "")
    (review,) = reviews(desk.store, entry.id)
    assert review.artifact_digest == artifact.digest and "Approved by bob" in detail(entry)
    desk.save_artifact(b"other weights")
    shown = detail(entry)
    assert "outdated" in shown and "The artifact changed since publication" in shown


def test_without_an_artifact_the_page_says_that_only_the_report_is_approved(desk, as_person):
    entry = desk.publish()
    as_person("bob", "admin")
    assert "No artifact has been exported" in detail(entry)
    page.decide(desk.store, entry, "approve", "")
    assert reviews(desk.store, entry.id)[0].artifact_digest == ""


def test_an_artifact_that_was_changed_on_disk_cannot_be_approved(desk, as_person):
    artifact = desk.save_artifact()
    entry = desk.publish()
    (desk.store.folder(artifact) / "load.py").write_text("import os")
    as_person("bob", "editor")
    with pytest.raises(RecordError, match=r"load\.py differs from its hash"):
        page.decide(desk.store, entry, "approve", "")
    assert reviews(desk.store, entry.id) == ()


def test_ones_own_approval_is_marked_as_such(desk, as_person):
    entry = desk.publish(user="ada")
    as_person("ada", "editor")
    assert "Self-approve" in detail(entry)
    page.decide(desk.store, entry, "approve", "")
    assert "Self-approved by ada" in detail(entry)


def test_asking_for_changes_needs_a_reason(desk, as_person):
    entry = desk.publish()
    as_person("bob", "editor")
    with pytest.raises(HotbenchError, match="request for changes is empty"):
        page.decide(desk.store, entry, "request-changes", "  ")
    page.decide(desk.store, entry, "request-changes", "The batch is too small.")
    assert "bob asked for changes" in detail(entry)


def test_a_viewer_reads_and_gets_no_form(desk, as_person):
    entry = desk.publish()
    as_person("vera", "viewer")
    shown = detail(entry) + texts(page.layout({}))
    assert not any(part in shown for part in ("comment-add", "review-approve", "report-publish"))
    with pytest.raises(Forbidden, match="vera is a viewer"):
        page.decide(desk.store, entry, "approve", "")
    assert comments(desk.store, entry.id) == () and reviews(desk.store, entry.id) == ()


def test_a_report_keeps_the_value_it_is_about_from_being_deleted(desk):
    desk.publish(desk.experiment.id)
    assert desk.store.discard(desk.store.get(desk.experiment.id)) is False
