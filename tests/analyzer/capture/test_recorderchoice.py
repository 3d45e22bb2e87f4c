"""Our recorder is used only where its check has passed, and a check that crashes ends nothing but itself."""

import json
import sys

import pytest

from analyzer.capture import recorderchoice
from analyzer.capture.recorderchoice import PROFILER_ONLY, run_check, why_not_ours


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty cache folder, and nothing remembered in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(PROFILER_ONLY, raising=False)
    monkeypatch.setattr(recorderchoice, "_unfit_machine", lambda: "")
    recorderchoice._checked.cache_clear()
    yield tmp_path
    recorderchoice._checked.cache_clear()


def check_that(monkeypatch, folder, code):
    """Let the check be a module with that code."""
    (folder / "strange_check.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(recorderchoice, "CHECK", "strange_check")


def kept(folder):
    return [json.loads(file.read_bytes()) for file in (folder / "cache" / "hotbench" / "recorder").glob("*")]


def test_a_crash_is_a_reason_that_is_remembered(fresh, monkeypatch):
    check_that(monkeypatch, fresh, "import ctypes; ctypes.string_at(0)")
    assert why_not_ours() == "its check ended with signal 11"
    assert kept(fresh) == [{"reason": "its check ended with signal 11"}]
    check_that(monkeypatch, fresh, "raise SystemExit(5)")
    recorderchoice._checked.cache_clear()
    assert why_not_ours() == "its check ended with signal 11"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.kill(os.getpid(), 9)", "its check ended with signal 9"),
        ("raise SystemExit(5)", "its check ended with status 5"),
        ("print('{}')", "its check ended with status 0"),
        ("""print('{"reason": "the clock", "lasting": false}')""", "the clock"),
    ],
)
def test_what_may_pass_the_next_time_is_not_remembered(fresh, monkeypatch, code, reason):
    check_that(monkeypatch, fresh, code)
    assert why_not_ours() == reason
    assert kept(fresh) == []


def test_a_passed_check_is_not_run_again(fresh, monkeypatch):
    check_that(monkeypatch, fresh, """print('{"reason": "", "lasting": true}')""")
    assert why_not_ours() == "" and kept(fresh) == [{"reason": ""}]
    check_that(monkeypatch, fresh, "raise SystemExit(5)")
    recorderchoice._checked.cache_clear()
    assert why_not_ours() == ""


def test_a_record_that_is_not_whole_is_no_answer(fresh, monkeypatch):
    check_that(monkeypatch, fresh, """print('{"reason": "", "lasting": true}')""")
    assert why_not_ours() == ""
    (file,) = (fresh / "cache" / "hotbench" / "recorder").glob("*")
    file.write_text("{")
    check_that(monkeypatch, fresh, "raise SystemExit(5)")
    recorderchoice._checked.cache_clear()
    assert why_not_ours() == "its check ended with status 5"


def test_a_cache_that_cannot_be_written_hinders_nothing(fresh, monkeypatch):
    (fresh / "cache").write_text("a file")
    check_that(monkeypatch, fresh, """print('{"reason": "", "lasting": true}')""")
    assert why_not_ours() == ""


def test_a_check_that_takes_too_long_is_ended(fresh, monkeypatch):
    check_that(monkeypatch, fresh, "import time; time.sleep(600)")
    monkeypatch.setattr(recorderchoice, "CHECK_SECONDS", 0.2)
    assert run_check() == ("its check could not be run (TimeoutExpired)", False)


def test_the_user_can_ask_for_the_profiler(fresh, monkeypatch):
    monkeypatch.setenv(PROFILER_ONLY, "1")
    assert why_not_ours() == f"{PROFILER_ONLY} is set"


def test_another_machine_has_a_reason_and_no_check(monkeypatch):
    monkeypatch.setattr(recorderchoice.platform, "machine", lambda: "riscv64")
    assert "x86_64" in why_not_ours()
    monkeypatch.undo()
    monkeypatch.setattr(recorderchoice.callbacks, "SYMBOLS", ("_ZN2at7missingEv",))
    if sys.platform == "linux" and recorderchoice._steady_counter():
        assert "does not export _ZN2at7missingEv" in why_not_ours()


@pytest.mark.skipif(recorderchoice._unfit_machine() != "", reason=f"unfit: {recorderchoice._unfit_machine()}")
def test_the_real_check_passes_in_a_process_of_its_own():
    assert run_check() == ("", True)
