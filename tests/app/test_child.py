"""A child that fails, crashes, is killed or hangs is told of in one line, and ends with its caller."""

import signal
import subprocess
import sys
import time

import pytest

from analyzer.errors import HotbenchError
from app.child import Finished, check_finished, run_child
from app.jobs.tree import process_record


def run(code, progress=lambda stage, fraction: None, echo=lambda line: None):
    return run_child([sys.executable, "-c", code], progress, echo, "error: ")


def test_progress_and_other_lines_go_apart():
    stages, lines = [], []
    finished = run(
        'import sys; print(\'hello\'); print(\'{"stage": "half", "fraction": 0.5}\', file=sys.stderr);'
        "print('{\"stage\": broken'); print('bye')",
        lambda stage, fraction: stages.append((stage, fraction)),
        lines.append,
    )
    assert stages == [("half", 0.5)] and lines == ["hello", '{"stage": broken', "bye"]
    assert finished == Finished(0, ("hello", '{"stage": broken', "bye"))


def test_its_own_error_line_is_raised_and_not_echoed_too():
    lines = []
    finished = run("print('error: mine'); print('error: no file x'); raise SystemExit(2)", echo=lines.append)
    with pytest.raises(HotbenchError, match="^no file x$"):
        check_finished("capture", finished, "error: ")
    assert lines == ["error: mine"]


def test_a_crash_names_the_last_line():
    finished = run("raise SystemExit('boom')")
    with pytest.raises(
        HotbenchError, match="capture ended with exit code 1 and nothing was saved; its last line: boom"
    ):
        check_finished("capture", finished, "error: ")


def test_a_traceback_goes_into_a_file_and_not_to_the_user(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    lines = []
    finished = run("print('before', flush=True); 1 / 0", echo=lines.append)
    with pytest.raises(HotbenchError, match="nothing was saved: ZeroDivisionError: .*; the traceback is in") as caught:
        check_finished("capture", finished, "error: ")
    assert lines == ["before"] and "\n" not in str(caught.value)
    (file,) = tmp_path.glob("hotbench-error-*.txt")
    assert "1 / 0" in file.read_text() or "<module>" in file.read_text()


def test_a_traceback_that_the_workload_prints_and_survives_is_told():
    lines = []
    run("import traceback\ntry: 1 / 0\nexcept ZeroDivisionError: traceback.print_exc()\nprint('on')", echo=lines.append)
    assert lines[0].startswith("Traceback") and lines[-1] == "on"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (signal.SIGKILL, r"^capture was killed by signal 9 \(SIGKILL\); nothing was saved; .*out-of-memory"),
        (signal.SIGSEGV, r"^capture was killed by signal 11 \(SIGSEGV\); nothing was saved; native code"),
        (signal.SIGTERM, r"^capture was killed by signal 15 \(SIGTERM\); nothing was saved$"),
    ],
)
def test_a_signal_is_named(number, text):
    finished = run(f"import os; os.kill(os.getpid(), {int(number)})")
    with pytest.raises(HotbenchError, match=text):
        check_finished("capture", finished, "error: ")


def alive(pid):
    """Return whether the process runs (a zombie that nobody has waited for does not)."""
    try:
        with open(f"/proc/{pid}/stat") as stream:  # noqa: PTH123
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid):
    """Wait until the process is gone; the test's own limit ends the wait."""
    while alive(pid):
        time.sleep(0.01)
    return True


def test_a_grandchild_does_not_outlive_a_killed_child():
    lines = []
    code = (
        "import os, subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid); os.kill(os.getpid(), 9)"
    )
    assert run(code, echo=lines.append).code == -9
    assert gone(int(lines[0]))


def test_an_interrupted_caller_ends_the_child():
    pids = []

    def echo(line):
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("import os, time; print(os.getpid()); time.sleep(60)", echo=echo)
    assert gone(pids[0])


def test_a_child_that_ignores_the_polite_signal_is_killed(monkeypatch):
    monkeypatch.setattr("app.child._GRACE_SECONDS", 0.2)
    pids = []

    def echo(line):
        pids.append(int(line))
        raise KeyboardInterrupt

    code = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid()); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        run(code, echo=echo)
    assert gone(pids[0])


def test_the_child_reads_no_input():
    assert run("import sys; print(repr(sys.stdin.read()))").lines == ("''",)


def test_the_child_ends_with_a_killed_caller(tmp_path):
    sign = tmp_path / "pid"
    child = f"import os, time; open({str(sign)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    caller = (
        "import sys; from app.child import run_child; "
        f"run_child([sys.executable, '-S', '-c', {child!r}], lambda *_: None, print, 'error: ')"
    )
    process = subprocess.Popen([sys.executable, "-c", caller], start_new_session=True)
    try:
        while not (sign.exists() and sign.read_text()):
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    while process_record(int(sign.read_text()))["started"]:
        time.sleep(0.02)
