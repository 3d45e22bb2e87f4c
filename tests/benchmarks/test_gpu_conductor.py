from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmarks.gpu.conductor import Conductor, read_lines, summarised
from benchmarks.gpu.findings import FAILED, PASSED, REFUSED, SKIPPED, Check, PartResult
from benchmarks.gpu.part import Part

STAND_IN = "tests.benchmarks.gpu_stand_in"


def part(tasks: str, limit: float = 60.0, *, timed: bool = False, argument: str = "", name: str = "") -> Part:
    return Part(name or tasks, f"the part {tasks}", f"{STAND_IN}:{tasks}", limit, timed, argument)


def states(result: PartResult) -> dict[str, str]:
    return {check.id: check.state for check in result.checks}


def test_each_end_of_a_task_is_told_in_one_line(tmp_path: Path) -> None:
    result = Conductor(tmp_path, 60).run(part("every_end"))
    assert result.state == FAILED
    assert result.text == "2 failed, 1 passed, 1 refused, 1 skipped; wrong: ValueError: element 7 is 1.0 instead of 2.0"
    texts = {check.id: check.text for check in result.checks}
    assert texts["skipped"] == "the peer is not installed"
    assert texts["refused"] == "fusion runs on the CPU only"
    assert result.checks[2].facts["tests"]["test_b"] == "failed"
    assert result.checks[0].figures[0].reached is True
    assert "Traceback" in (tmp_path / "every_end.log").read_text()


def test_a_crash_fails_its_own_task_and_the_rest_runs_in_a_new_process(tmp_path: Path) -> None:
    result = Conductor(tmp_path, 60).run(part("crash_between"))
    assert states(result) == {"before": PASSED, "crash": FAILED, "after": PASSED}
    assert result.checks[1].text == "the process ended with signal 11: about to die"


def test_a_task_past_the_limit_fails_the_rest_is_skipped_and_nothing_is_left_running(tmp_path: Path) -> None:
    noted = tmp_path / "process"
    # The limit has come as soon as the task hangs.
    clock = lambda: 1000.0 if noted.exists() and noted.read_text() else 0.0  # noqa: E731
    result = Conductor(tmp_path, 60, clock).run(part("hang_between", 3.0, argument=str(noted)))
    assert states(result) == {"before": PASSED, "hang": FAILED, "after": SKIPPED}
    assert result.checks[1].text == "the process was ended after its limit of 3 s"
    assert result.checks[2].text == "not run: the process was ended after its limit of 3 s"
    assert_ends(int(noted.read_text()))


def assert_ends(process: int) -> None:
    """Fail unless the process is gone, or a corpse that its new parent has yet to collect, within ten seconds."""
    for _ in range(500):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.02)
    raise AssertionError(f"process {process} still runs")


def test_a_spoilt_process_is_replaced_for_the_tasks_that_are_left(tmp_path: Path) -> None:
    result = Conductor(tmp_path, 60).run(part("spoilt", argument=str(tmp_path / "process")))
    assert states(result) == {"before": PASSED, "spoils": FAILED, "after": PASSED}
    assert result.checks[2].text == "in a new process"


def test_a_part_that_cannot_list_its_tasks_fails_and_says_why(tmp_path: Path) -> None:
    result = Conductor(tmp_path, 60).run(part("cannot_list"))
    assert (result.state, result.checks) == (FAILED, ())
    assert "No module named 'absent_package'" in result.text


def test_parts_that_time_nothing_go_first_and_every_result_is_handed_over(tmp_path: Path) -> None:
    ended: list[PartResult] = []
    parts = [
        part("two_good", timed=True, argument="c", name="timed"),
        part("two_good", argument="a", name="one"),
        part("two_good", argument="b", name="other"),
    ]
    Conductor(tmp_path, 60).run_all(parts, ended.append)
    assert sorted(result.name for result in ended[:2]) == ["one", "other"]
    assert ended[2].name == "timed" and states(ended[2]) == {"c-first": PASSED, "c-second": PASSED}


def test_once_the_budget_is_spent_the_rest_is_skipped_in_words(tmp_path: Path) -> None:
    result = Conductor(tmp_path, 1.0).run(part("two_good"))
    assert (result.state, result.text) == (SKIPPED, "not run: the time for all parts was used up")


def test_an_interruption_ends_the_running_part(tmp_path: Path) -> None:
    noted = tmp_path / "process"

    def interrupt(result: PartResult) -> None:
        for _ in range(1000):
            if noted.exists() and noted.read_text():
                raise KeyboardInterrupt
            time.sleep(0.02)

    parts = [part("two_good"), part("hang_between", argument=str(noted))]
    conductor = Conductor(tmp_path, 120)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: 4)
        with pytest.raises(KeyboardInterrupt):
            conductor.run_all(parts, interrupt)
    assert_ends(int(noted.read_text()))
    # No new process was started for the task that was left.
    assert '"begun": "after"' not in (tmp_path / "hang_between.jsonl").read_text()


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "part.jsonl"
    file.write_text('{"tasks": ["a", "b"]}\n{"begun": "a"}\n{"check": {"id": "a", "sta')
    assert read_lines(file) == (["a", "b"], "a", {})
    assert read_lines(tmp_path / "none.jsonl") == ([], "", {})


def test_a_part_whose_only_answers_are_refusals_is_refused() -> None:
    checks = [Check("a", REFUSED, "not on CUDA"), Check("b", SKIPPED, "not installed")]
    result = summarised(part("two_good"), checks, 1.0, "")
    assert (result.state, result.text) == (REFUSED, "1 refused, 1 skipped; a: not on CUDA")
