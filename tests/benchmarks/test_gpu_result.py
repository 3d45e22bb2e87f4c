from __future__ import annotations

import json
from pathlib import Path

from benchmarks.gpu.conductor import read_check
from benchmarks.gpu.findings import (
    FAILED,
    PASSED,
    SKIPPED,
    Bar,
    Check,
    Figure,
    Found,
    PartResult,
    Spread,
    judged,
    one_line,
)
from benchmarks.gpu.result import Result, environment_of, markdown, write_log, write_result


def figure(ratio: float, bar: Bar | None = None) -> Figure:
    made = Figure("gelu-64-mib", "copy", "gb-per-s", Spread(2700.0, 2690.0, 2710.0), Spread(3000.0, 2990.0, 3010.0))
    made = Figure(made.case, made.peer, made.metric, made.ours, made.theirs, Spread(ratio, ratio, ratio))
    return judged(made, bar, "NVIDIA H100") if bar else made


def result() -> Result:
    bar = Bar("ratio", at_least=0.85)
    checks = (
        Check("gelu-64-mib", PASSED, "right to 1e-06", 1.5, (figure(0.9, bar), figure(0.8, bar))),
        Check("gelu-1-mib", FAILED, "AssertionError: a | b"),
    )
    environment = (Check("gpu", PASSED, "", facts={"name": "NVIDIA H100", "driver": "580.1"}),)
    return Result(
        "python -m benchmarks.gpu_check",
        "",
        (
            PartResult("environment", "this machine", PASSED, "1 passed", 0.5, environment),
            PartResult("pointwise", "bandwidth", FAILED, "1 failed, 1 passed", 9.0, checks),
            PartResult("launch", "cost of a launch", SKIPPED, "not run"),
        ),
        12.0,
        environment_of((PartResult("environment", "", PASSED, "", 0.5, environment),)),
    )


def test_the_page_has_figures_with_their_bars_and_what_failed() -> None:
    text = markdown(result())
    assert "name NVIDIA H100, driver 580.1." in text
    row = "| gelu-64-mib | gb-per-s | 2700 (2690 to 2710) | copy | 3000 (2990 to 3010) |"
    assert f"{row} 0.9 (0.9 to 0.9) | at least 0.85 x | reached |" in text
    assert f"{row} 0.8 (0.8 to 0.8) | at least 0.85 x | not reached |" in text
    assert "| gelu-1-mib | failed | AssertionError: a \\| b |" in text
    assert "| cost of a launch (`launch`) | skipped | 0.0 | not run |" in text


def test_the_bars_are_listed_with_what_decides_them() -> None:
    reached, missed = result().bars()
    assert reached == "reached: pointwise: gelu-64-mib against copy: 0.9 x (bar: at least 0.85 x)"
    assert missed.startswith("not reached: ") and f"- {missed}" in markdown(result())


def test_a_bar_is_judged_on_its_own_gpu_alone() -> None:
    bar = Bar("ours", at_most=0.5)
    made = Figure("lstm", "", "milliseconds", Spread(0.4, 0.4, 0.4))
    assert judged(made, bar, "NVIDIA H100 80GB HBM3").reached is True
    assert judged(made, bar, "NVIDIA A100").reached is None
    assert judged(made, bar, "NVIDIA A100").bar == "at most 0.5"


def test_the_json_reads_back(tmp_path: Path) -> None:
    write_result(result(), tmp_path)
    data = json.loads((tmp_path / "gpu-check.json").read_text())
    assert data["format_version"] == 1 and data["created"].endswith("Z")
    assert read_check(data["parts"][1]["checks"][0]) == result().parts[1].checks[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu-check.json", "gpu-check.md"]


def test_a_long_list_of_passed_checks_is_told_as_a_number() -> None:
    checks = tuple(Check(f"case-{number}", PASSED, "sizes 3") for number in range(20))
    part = PartResult("kernels", "kernels", PASSED, "20 passed", 1.0, checks)
    text = markdown(Result("command", "", (part,)))
    assert "20 checks passed." in text and "case-7" not in text


def test_the_log_keeps_the_end_of_what_each_part_printed(tmp_path: Path) -> None:
    (tmp_path / "one.log").write_text("x" * 500_000 + "last")
    (tmp_path / "two.log").write_text("")
    write_log(tmp_path, ["one", "two", "three"], tmp_path)
    text = (tmp_path / "gpu-check.log").read_text()
    assert text.startswith("== one\n") and text.endswith("last\n") and len(text) < 450_000 and "== two" not in text


def test_an_error_becomes_one_short_line() -> None:
    assert one_line(ValueError("a\n  b")) == "ValueError: a b"
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert len(one_line(ValueError("x" * 1000))) == 400
    assert one_line(OSError(f"no file {__file__}")) == "OSError: no file tests/benchmarks/test_gpu_result.py"


def test_what_was_found_is_plain_by_default() -> None:
    assert Found("text") == Found("text", (), {})
