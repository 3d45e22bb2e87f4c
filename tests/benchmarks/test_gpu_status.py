from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_status
from benchmarks.gpu.part import list_tasks
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu_status import NOT_SEEN, Row, Seen, page, read_rows, with_result, write_rows
from tests.cuda import test_sass, test_simulated, test_twin
from tests.cuda.cases import CASES

ROOT = Path(__file__).parents[2]
CUDA = ROOT / "tests" / "cuda"


def cases_of(test: Any) -> set[str]:
    """Return the names of the cases that a test of tests/cuda is parametrized with."""
    names: set[str] = set()
    for mark in test.pytestmark:
        if mark.name == "parametrize" and "case" in (
            mark.args[0] if isinstance(mark.args[0], tuple) else (mark.args[0],)
        ):
            names |= {(value[0] if isinstance(value, tuple) else value).name for value in mark.args[1]}
    return names


# What each tier's own test really runs.
TESTED = {
    "twin": cases_of(test_twin.test_the_cpu_twin_matches_the_float64_reference),
    "simulator": cases_of(test_simulated.test_the_simulated_kernel_matches_the_float64_reference),
    "compiled": cases_of(test_sass.test_the_compiled_kernel_keeps_its_bounds),
}


def test_the_page_is_what_the_data_say() -> None:
    assert gpu_status.PAGE.read_text() == page(read_rows()), f"run: {gpu_status.COMMAND}"


def test_a_row_names_cases_that_exist() -> None:
    names = [case.name for case in CASES]
    for row in read_rows():
        for pattern in row.cases:
            assert fnmatch.filter(names, pattern), f"{row.capability}: no case is named {pattern}"


def test_the_tiers_of_a_row_are_those_that_all_its_cases_go_through() -> None:
    names = [case.name for case in CASES]
    for row in read_rows():
        mine = {name for pattern in row.cases for name in fnmatch.filter(names, pattern)}
        derived = tuple(tier for tier, tested in TESTED.items() if mine and mine <= tested)
        assert row.tiers == derived, f"{row.capability}: its cases go through {derived}"


def test_every_case_belongs_to_a_capability() -> None:
    patterns = [pattern for row in read_rows() for pattern in row.cases]
    for case in CASES:
        assert any(fnmatch.fnmatch(case.name, pattern) for pattern in patterns), case.name


def known_checks() -> Iterator[str]:
    """Yield the id of every check that benchmarks.gpu_check makes, and of every test that it runs."""
    for part in PARTS:
        for task in list_tasks(part.tasks, part.argument):
            yield f"{part.name}/{task.id}"
            if part.name.startswith("tests-"):
                text = (CUDA / f"{task.id}.py").read_text()
                yield from (f"{part.name}/{task.id}::{name}" for name in re.findall(r"^def (test_\w+)", text, re.M))


def test_a_row_names_checks_that_exist_and_every_row_can_be_seen() -> None:
    known = list(known_checks())
    for row in read_rows():
        assert row.patterns(), f"{row.capability}: nothing on a GPU would show it"
        for pattern in row.patterns():
            assert fnmatch.filter(known, pattern), f"{row.capability}: no check is named {pattern}"


def test_every_timed_part_belongs_to_a_capability() -> None:
    patterns = [pattern for row in read_rows() for pattern in row.checks]
    for part in PARTS:
        if part.timed:
            for task in list_tasks(part.tasks, part.argument):
                assert any(fnmatch.fnmatch(f"{part.name}/{task.id}", pattern) for pattern in patterns), task.id


def test_what_a_gpu_showed_is_what_the_committed_result_says() -> None:
    rows = read_rows()
    if not gpu_status.COMMITTED.exists():
        assert [row.capability for row in rows if row.seen] == []
        return
    assert rows == with_result(rows, json.loads(gpu_status.COMMITTED.read_text()))


def test_a_gpu_is_named_on_the_status_page_alone() -> None:
    # A claim about speed names its device (see the page): a model's name elsewhere would be one.
    model = re.compile(r"\b(H100|H200|B200|A100|A10G?|L4|L40S?|V100|T4|RTX ?\d{4}|GeForce|Tesla)\b")
    documents = [ROOT / "README.md", *(path for path in (ROOT / "docs").rglob("*.md") if path != gpu_status.PAGE)]
    found = [f"{path.name}: {match.group()}" for path in documents if (match := model.search(path.read_text()))]
    assert found == []
    assert "docs/gpu-status.md" in (ROOT / "README.md").read_text()


SEEN = Seen("NVIDIA H100", "driver 580.1", "2026-12-01", "python -m benchmarks.gpu_check", True, "3 of 3 checks passed")


def row(seen: Seen | None = None, cases: tuple[str, ...] = (), checks: tuple[str, ...] = ()) -> Row:
    return Row("one", cases, ("twin",) if cases else (), checks, seen, "a note")


def test_a_capability_that_no_gpu_showed_is_said_to_be_unseen() -> None:
    assert f"| one | twin | {NOT_SEEN} | a note |" in page([row(cases=("a",))])


def test_a_capability_that_a_gpu_showed_names_it() -> None:
    text = page([row(SEEN, cases=("a",))])
    told = "NVIDIA H100 (driver 580.1), 2026-12-01, `python -m benchmarks.gpu_check`: 3 of 3 checks passed"
    assert f"| one | twin, device | {told} | a note |" in text


def result(**states: str) -> dict[str, Any]:
    """Return a result whose checks of the part kernels-family end in the states given."""
    figure = {"case": "", "reached": True}
    checks = [
        {"id": f"{name}/wide", "state": state, "text": f"{name} is {state}", "figures": [figure], "facts": {}}
        for name, state in states.items()
    ]
    tests = {"id": "test_gpu", "state": "failed", "text": "", "figures": [], "facts": {"tests": {"test_a": "passed"}}}
    return {
        "environment": {"name": "NVIDIA H100", "driver": "580.1", "torch": "2.11.0"},
        "created": "2026-12-01T10:00:00Z",
        "command": "python -m benchmarks.gpu_check",
        "parts": [{"name": "kernels-family", "checks": checks}, {"name": "tests", "checks": [tests]}],
    }


def test_a_row_is_seen_where_its_checks_ran_and_passes_where_all_did() -> None:
    (seen,) = with_result([row(cases=("good*",))], result(good_a="passed", good_b="passed", bad="failed"))
    assert seen.seen == Seen(
        "NVIDIA H100",
        "driver 580.1, torch 2.11.0",
        "2026-12-01",
        "python -m benchmarks.gpu_check",
        True,
        "2 of 2 checks passed; 2 of 2 bars reached",
    )
    (mixed,) = with_result([row(cases=("*",))], result(good="passed", bad="failed"))
    assert mixed.seen is not None and not mixed.seen.passed
    assert mixed.seen.result.startswith("1 of 2 checks passed; failed: bad is failed")
    assert mixed.all_tiers() == ("twin",)


def test_a_refusal_is_told_and_is_no_pass() -> None:
    (refused,) = with_result([row(cases=("good",))], result(good="refused"))
    assert refused.seen is not None and not refused.seen.passed and "refused: good is refused" in refused.seen.result


def test_a_row_of_which_nothing_ran_stays_unseen() -> None:
    (skipped,) = with_result([row(SEEN, cases=("good",))], result(good="skipped"))
    assert skipped.seen is None


def test_a_single_test_of_a_failed_file_counts_by_itself() -> None:
    (one,) = with_result([row(checks=("tests/test_gpu::test_a",))], result())
    assert one.seen is not None and one.seen.passed


def test_rows_read_back_as_they_were_written(tmp_path: Path) -> None:
    rows = (row(SEEN, cases=("a", "b")), row(checks=("tests/*",)))
    write_rows(rows, tmp_path / "status.json")
    assert read_rows(tmp_path / "status.json") == rows


@pytest.mark.parametrize("tier", ["device", "guessed"])
def test_a_tier_that_cannot_be_written_down_is_refused(tmp_path: Path, tier: str) -> None:
    path = tmp_path / "status.json"
    write_rows([Row("one", (), (tier,), (), None, "")], path)
    with pytest.raises(ValueError, match=f"one: {tier} is no tier to write down"):
        read_rows(path)


def test_committing_copies_the_result_and_rewrites_the_page(tmp_path: Path) -> None:
    folder, root = tmp_path / "out", tmp_path / "root"
    for place in (folder, root / "docs", root / "benchmarks" / "results"):
        place.mkdir(parents=True)
    (folder / "gpu-check.json").write_text(json.dumps(result(good="passed")))
    data = root / "benchmarks" / "results" / "gpu-status.json"
    write_rows([row(cases=("good",))], data)
    line = gpu_status.commit_result(folder, root)
    assert (
        line == "rewritten: benchmarks/results/gpu-check.json, benchmarks/results/gpu-status.json, docs/gpu-status.md"
    )
    assert "NVIDIA H100" in (root / "docs" / "gpu-status.md").read_text()
    rows = read_rows(data)
    assert rows[0].seen is not None
    assert rows == with_result(rows, json.loads((root / "benchmarks" / "results" / "gpu-check.json").read_text()))


def test_a_result_without_a_gpus_name_is_not_committed(tmp_path: Path) -> None:
    (tmp_path / "gpu-check.json").write_text(json.dumps({**result(), "environment": {}}))
    with pytest.raises(ValueError, match="the result names no GPU"):
        gpu_status.commit_result(tmp_path)
