"""`hotbench publish` and `hotbench review`: the record, and what is said of it."""

import hashlib
from pathlib import Path

import pytest

from analyzer.record import write_folder
from app import workbench
from app.author import command_line_author
from app.store import open_store
from app.store.reviews import comments, reviews
from tests.app.commanding import asked, fails, run
from tests.app.values import HOSTILE, report_diagnosis


@pytest.fixture
def place(stored, monkeypatch):
    monkeypatch.setattr(workbench, "diagnose", report_diagnosis)
    return stored[0]


@pytest.fixture
def report(capsys, place, stored):
    return asked(capsys, "publish", stored[3].id, "--title", "For the record", "--store", place)["report"]


def export(place, experiment, content):
    name = f"artifact-{content.hex()[:12]:0<12}"
    with open_store(place) as store:
        return store.save(
            "artifact",
            lambda folder: write_folder(folder, {"weights/all.bin": content}, "artifact", name),
            name="model + fusion",
            parent=experiment,
        )


@pytest.mark.parametrize("position", [1, 3])
def test_the_hash_is_that_of_the_file_that_it_names(capsys, place, stored, position):
    data = asked(capsys, "publish", stored[position].id, "--store", place)
    assert hashlib.sha256(Path(data["file"]).read_bytes()).hexdigest() == data["sha256"]
    assert (data["value"], data["published_by"]) == (stored[position].id, command_line_author())


def test_people_see_id_and_hash_and_how_to_review_it(capsys, place):
    code, out, _ = run(capsys, "publish", "latest", "--store", place)
    assert code == 0 and out.startswith("published report-") and "sha256 " in out
    assert f"--approve --store {place}" not in out and f"--store {place} --approve" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("publish", "run-none"), "no run or experiment 'run-none'"),
        (("publish", "latest", "--title", "x" * 201), "the title has 201 characters; 200 are the most"),
        (("review", "report-none"), "no report 'report-none'"),
    ],
)
def test_what_cannot_be_published_or_reviewed_is_one_line(capsys, place, arguments, message):
    assert message in fails(capsys, *arguments, "--store", place)


def test_a_report_that_nobody_answered_says_so(capsys, place, report):
    assert "open: Nobody has decided on it yet." in run(capsys, "review", report, "--store", place)[1]
    data = asked(capsys, "review", report, "--store", place)
    assert (data["standing"], data["comments"], data["reviews"]) == ("open", [], [])


@pytest.mark.parametrize("anchor", ["", "op:5", "finding:dispatch-bound:4"])
def test_a_remark_says_what_it_is_about_and_who_wrote_it(capsys, place, report, anchor):
    at = ["--at", anchor] if anchor else []
    data = asked(capsys, "review", report, "--comment", HOSTILE, *at, "--store", place)
    (said,) = data["comments"]
    assert (said["anchor"], said["text"], said["author"]) == (anchor, HOSTILE, command_line_author())
    _, out, _ = run(capsys, "review", report, "--store", place)
    assert "\x1b" not in out and "<script>alert(1)" in out


@pytest.mark.parametrize("anchor", ["op:61", "finding:none", "line 5", "op:-1"])
def test_a_remark_on_what_the_run_does_not_have_is_refused(capsys, place, report, anchor):
    assert "no such op or finding" in fails(
        capsys, "review", report, "--comment", "x", f"--at={anchor}", "--store", place
    )
    with open_store(place) as store:
        assert comments(store, report) == ()


def test_an_approval_is_bound_to_the_artifact_of_that_moment(capsys, place, stored, report):
    artifact = export(place, stored[3].id, b"weights")
    data = asked(capsys, "review", report, "--approve", "--reason", "as fast as said", "--store", place)
    assert data["standing"] == "approved" and data["reviews"][0]["self_approved"] is True
    with open_store(place) as store:
        (review,) = reviews(store, report)
    assert (review.artifact_digest, review.text) == (artifact.digest, "as fast as said")
    export(place, stored[3].id, b"other weights")
    data = asked(capsys, "review", report, "--store", place)
    assert data["standing"] == "outdated" and data["reviews"][0]["outdated"] is True


def test_asking_for_changes_stands_until_the_same_person_approves(capsys, place, report, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "bob")
    data = asked(capsys, "review", report, "--request-changes", "The batch is too small.", "--store", place)
    assert (data["standing"], data["reviews"][0]["text"]) == ("changes requested", "The batch is too small.")
    data = asked(capsys, "review", report, "--approve", "--store", place)
    assert data["words"] == "Approved by bob (command line)."


def test_a_changed_report_cannot_be_approved(capsys, place, report):
    with open_store(place) as store:
        file = store.folder(store.get(report)) / "report.html"
    file.write_text(file.read_text() + "<p>and more</p>")
    assert "report.html differs from its hash" in fails(capsys, "review", report, "--approve", "--store", place)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--at", "op:1"), "--at op:1: it goes with --comment TEXT"),
        (("--reason", "x"), "--reason goes with --approve"),
        (("--comment", "x", "--approve"), "not allowed with argument --comment"),
        (("--approve", "--request-changes", "x"), "not allowed with argument --approve"),
        (("--comment", "  "), "the comment is empty"),
        (("--request-changes", ""), "request for changes is empty"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(capsys, place, report, arguments, message):
    assert message in fails(capsys, "review", report, *arguments, "--store", place)
