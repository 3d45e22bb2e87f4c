from __future__ import annotations

import json
from pathlib import Path

import pytest

from analyzer.errors import HotbenchError
from benchmarks.command import device_slug, main, table
from benchmarks.contract import (
    Benchmark,
    Missing,
    Outcome,
    Promise,
    Settings,
    interleave,
    result_of,
    row_of_samples,
    timed,
)

FAST = Promise("case", "peer", "seconds")
ABSENT = Promise("case", "other-peer", "seconds")


def outcome(settings: Settings) -> Outcome:
    return Outcome((row_of_samples(FAST, 1, [1.0, 2.0, 3.0], [2.0, 4.0, 6.0]),), (Missing("other-peer", "not there"),))


BENCHMARK = Benchmark("trial", (FAST, ABSENT), outcome)


def test_a_ratio_above_one_means_that_ours_is_ahead_whatever_the_metric() -> None:
    seconds = row_of_samples(FAST, 1, [1.0, 1.0], [2.0, 2.0])
    rate = row_of_samples(FAST, 1, [2.0, 2.0], [1.0, 1.0], higher_is_better=True)
    assert (seconds.ratio.median, rate.ratio.median) == (2.0, 2.0)
    assert (seconds.ours, seconds.theirs) == (1.0, 2.0)


def test_cases_take_turns_and_the_warm_up_is_dropped() -> None:
    calls: list[str] = []

    def case(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    samples = interleave({"a": lambda: case("a"), "b": lambda: case("b"), "c": lambda: case("c")}, 3, warmup=1)
    assert [len(values) for values in samples.values()] == [3, 3, 3]
    assert "".join(calls) == "cab" + "abc" + "bca" + "cab"
    assert samples["a"][0] == 4.0


def test_timed_work_takes_the_clocks_time() -> None:
    ticks = iter([1.0, 3.5])
    assert timed(lambda: None, clock=lambda: next(ticks))() == 2.5


def test_the_result_holds_what_the_contract_names() -> None:
    result = json.loads(json.dumps(result_of(BENCHMARK, outcome(Settings(True)), quick=True)))
    assert set(result) >= {"environment", "rows", "missing", "command"}
    assert set(result["rows"][0]) == {"case", "threads", "peer", "metric", "ours", "theirs", "ratio"}
    assert set(result["rows"][0]["ratio"]) == {"median", "low", "high"}
    assert result["missing"] == [{"peer": "other-peer", "why": "not there"}]


def test_a_row_that_is_not_listed_is_refused() -> None:
    with pytest.raises(HotbenchError, match="case/peer/seconds is not listed"):
        result_of(Benchmark("trial", (ABSENT,), outcome), outcome(Settings(True)), quick=True)


def test_a_full_run_is_written_and_a_quick_one_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(BENCHMARK, ["--quick", "--json"], tmp_path) == 0
    assert list(tmp_path.iterdir()) == []
    printed = json.loads(capsys.readouterr().out)
    assert main(BENCHMARK, ["--json"], tmp_path) == 0
    (path,) = tmp_path.iterdir()
    assert path.name == f"trial-{device_slug(printed['environment'])}.json"
    assert json.loads(path.read_text())["rows"] == printed["rows"]


def test_a_full_run_without_a_promised_row_fails(tmp_path: Path) -> None:
    promised = Benchmark("trial", (FAST, Promise("case", "peer", "bytes")), outcome)
    assert main(promised, ["--json"], tmp_path) == 1
    assert main(promised, ["--quick"], tmp_path) == 0


def test_the_list_names_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(BENCHMARK, ["--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"case": "case", "peer": "peer", "metric": "seconds"},
        {"case": "case", "peer": "other-peer", "metric": "seconds"},
    ]


def test_a_mistake_is_one_line_and_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(settings: Settings) -> Outcome:
        raise HotbenchError("no core is\nleft")

    assert main(Benchmark("trial", (), fail), ["--json"]) == 2
    assert capsys.readouterr().err == "benchmarks.trial: no core is left\n"


def test_the_table_names_who_is_missing() -> None:
    text = table(result_of(BENCHMARK, outcome(Settings(True)), quick=True))
    assert "missing: other-peer: not there" in text
    assert "2.000" in text


def test_a_place_that_cannot_be_written_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(BENCHMARK, ["--json"], tmp_path / "file") == 2
    assert "cannot write" in capsys.readouterr().err
