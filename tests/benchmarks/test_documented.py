"""Tables of committed results in the documentation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analyzer.errors import HotbenchError
from benchmarks.documented import PAGE, documented

EMPTY = "before\n<!-- table: some latency -->\n<!-- /table -->\nafter\n"


def _result(path: Path) -> None:
    ratio = {"median": 2.5, "low": 2.25, "high": 3.0}
    row = {"case": "a", "threads": 1, "peer": "eager", "metric": "latency", "ours": 0.002, "theirs": 0.005}
    environment = {"cpu": "Some CPU", "cores": 2, "torch": "2.13.0"}
    result = {"benchmark": "some", "command": "python -m benchmarks.some", "environment": environment}
    rows = [{**row, "ratio": ratio}, {**row, "case": "b", "peer": "inductor", "ratio": ratio}]
    (path / "some-cpu.json").write_text(json.dumps({**result, "rows": rows}))


def test_the_page_says_what_the_committed_results_hold() -> None:
    text = PAGE.read_text()
    assert "<!-- table: fusion latency -->" in text
    assert documented(text) == text


def test_a_table_holds_a_line_a_case_and_a_column_a_peer(tmp_path: Path) -> None:
    _result(tmp_path)
    page = documented(EMPTY, tmp_path)
    assert "| case | threads | ours, ms | eager | inductor |" in page
    assert "| a | 1 | 2 | 2.50 (2.25 to 3.00) | – |" in page
    assert "| b | 1 | 2 | – | 2.50 (2.25 to 3.00) |" in page
    assert page.startswith("before\n") and page.endswith("after\n")
    assert documented(page, tmp_path) == page


@pytest.mark.parametrize("name", ["other latency", "some size_bytes"], ids=["result", "metric"])
def test_a_table_of_what_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    _result(tmp_path)
    with pytest.raises(HotbenchError, match="no committed result of benchmarks.other|is of 'size_bytes'"):
        documented(EMPTY.replace("some latency", name), tmp_path)
