from __future__ import annotations

import fnmatch
import json
from pathlib import Path

import pytest

from benchmarks import gpu_status
from benchmarks.gpu_status import NOT_SEEN, Row, page, read_rows
from tests.cuda.cases import CASES


def test_the_page_is_what_the_data_say() -> None:
    assert gpu_status.PAGE.read_text() == page(read_rows()), f"run: {gpu_status.COMMAND}"


def test_a_tier_is_claimed_only_for_cases_that_exist() -> None:
    names = [case.name for case in CASES]
    for row in read_rows():
        assert bool(row.cases) == bool(set(row.tiers) - {"device"}), row.capability
        for pattern in row.cases:
            assert fnmatch.filter(names, pattern), f"{row.capability}: no case is named {pattern}"


def test_every_case_belongs_to_a_capability() -> None:
    patterns = [pattern for row in read_rows() for pattern in row.cases]
    for case in CASES:
        assert any(fnmatch.fnmatch(case.name, pattern) for pattern in patterns), case.name


def test_a_capability_without_device_is_said_to_be_unseen() -> None:
    seen = Row("one", (), ("device",), "NVIDIA H100, 2026-12-01, make gpu-check", "")
    text = page([seen, Row("two", (), (), None, "")])
    assert "| one | device | NVIDIA H100, 2026-12-01, make gpu-check |" in text
    assert f"| two | none | {NOT_SEEN} |" in text


@pytest.mark.parametrize(
    ("tiers", "device", "message"),
    [
        (["device"], None, "go together"),
        ([], "NVIDIA H100", "go together"),
        (["guessed"], None, "unknown tier guessed"),
    ],
)
def test_a_claim_that_cannot_be_is_refused(tmp_path: Path, tiers: list[str], device: str | None, message: str) -> None:
    row = {"capability": "one", "cases": [], "tiers": tiers, "device": device, "note": ""}
    path = tmp_path / "status.json"
    path.write_text(json.dumps({"rows": [row]}))
    with pytest.raises(ValueError, match=message):
        read_rows(path)
