"""Reports are written whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from app.reports.write import ReportError, check_target, write_run_report
from tests.app.values import report_diagnosis, report_ops, report_run


@pytest.fixture(scope="module")
def run():
    return report_run()


def write(run, path):
    write_run_report(run, report_diagnosis(run), report_ops(), path)


def test_an_html_report_brings_plotly_along(run, tmp_path):
    write(run, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert len(text) > 1_000_000 and "plotly.js" in text[:200_000] and "Plotly.react" in text
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_an_existing_file_is_replaced_only_by_a_whole_one(run, tmp_path, monkeypatch):
    target = tmp_path / "r.md"
    target.write_text("before")

    def full(_handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("app.reports.write.os.fsync", full)
    with pytest.raises(ReportError, match="No space left on device; free space"):
        write(run, target)
    assert target.read_text() == "before" and [path.name for path in tmp_path.iterdir()] == ["r.md"]
    monkeypatch.undo()
    write(run, target)
    assert target.read_text(encoding="utf-8").startswith("# model.py:workload")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("r.pdf", "cannot write a report to 'r.pdf': give a name that ends in .html or .md"),
        ("r", "give a name that ends in"),
        ("missing/r.html", "no folder .*missing.* make it first"),
        ("folder.md", "is a folder; give the name of a file"),
    ],
)
def test_a_target_that_cannot_be_is_refused_before_any_work(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(ReportError, match=message):
        check_target(Path(name))


def test_a_place_that_cannot_be_written_is_named(run):
    with pytest.raises(ReportError, match="cannot write the report to /proc/r.html"):
        write(run, Path("/proc/r.html"))


def test_a_report_has_the_modes_of_a_new_file(run, tmp_path):
    write(run, tmp_path / "r.md")
    (tmp_path / "other").write_text("")
    assert (tmp_path / "r.md").stat().st_mode == (tmp_path / "other").stat().st_mode
