"""`python -m analyzer`: what it prints, and that no mistake of a user's ends in a traceback or half a folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analyzer.cli import main
from analyzer.run import load_run

ROOT = Path(__file__).parents[2]
GOOD = """
import torch
from analyzer.workload import Workload

def workload():
    return Workload(model=torch.nn.Linear(5, 3), inputs=(torch.rand(7, 5),))
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "good.py").write_text(GOOD)
    return tmp_path


def write(place, body, header="import sys, torch\nfrom analyzer.workload import Workload\n"):
    (place / "bad.py").write_text(header + body)
    return f"{place / 'bad.py'}:workload"


def test_capture_and_show_give_the_keys_of_the_contract(place, capfd):
    folder = place / "run"
    name = f"{place / 'good.py'}:workload"
    assert main(["capture", name, "-o", str(folder), "--steps", "2", "--threads", "1", "--json"]) == 0
    captured = capfd.readouterr()
    summary = json.loads(captured.out)
    assert set(summary) >= {
        "run", "device", "ops", "edges", "step_seconds", "throughput", "overhead", "peak_bytes", "coverage",
    }  # fmt: skip
    assert set(summary["step_seconds"]) >= {"median", "low", "high", "p95", "p99"}
    assert set(summary["coverage"]) == {"timed_ops", "joined_ops", "categorised_bytes"}
    assert captured.err == ""
    run = load_run(folder)
    assert run.id == summary["run"] and run.threads == 1 and summary["ops"] == len(run.graph.ops)

    assert main(["show", str(folder), "--ops", "3", "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)
    assert set(shown) >= {"step_seconds", "ops", "kernels", "memory", "busy_seconds", "idle_seconds"}
    assert len(shown["ops"]) == 3
    assert set(shown["ops"][0]) >= {"name", "count", "self_seconds", "share", "flops", "bytes"}
    assert shown["busy_seconds"] is None and shown["memory"]["parameter"] == 4 * (15 + 3)
    assert main(["show", str(folder)]) == 0
    assert "aten::addmm" in capfd.readouterr().out


def test_progress_goes_to_standard_error_as_json(place, capfd):
    arguments = ["capture", f"{place / 'good.py'}:workload", "-o", str(place / "run"), "--steps", "1"]
    assert main([*arguments, "--progress", "json"]) == 0
    stages = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    fractions = [stage["fraction"] for stage in stages]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0 and len(stages) > 4


def refused(capfd, *arguments):
    assert main(list(arguments)) == 2
    captured = capfd.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == "" and len(lines) == 1 and lines[0].startswith("error: "), captured
    return lines[0]


RAISES = """
class M(torch.nn.Module):
    def forward(self, x):
        raise RuntimeError('two\\nlines')

def workload():
    return Workload(model=M(), inputs=(torch.rand(3),))
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def workload(): raise KeyError('lost')", "raised KeyError"),
        ("def workload(): return 7", "returned a int"),
        ("def workload(): sys.exit(3)", "sys.exit(3)"),
        ("x = 1 / 0\ndef workload(): pass", "ZeroDivisionError"),
        ("def other(): pass", "no function 'workload'; it has: other"),
        (
            RAISES,
            "step raised RuntimeError: two lines",
        ),
        ("def workload(): return Workload(model=torch.nn.Linear(5, 3), inputs=(torch.rand(7, 4),))", "step raised"),
        ("def workload(): return Workload(model=torch.nn.Linear(5, 3), inputs=None)", "inputs"),
        ("def workload(): return Workload(model=torch.nn.Linear(5, 3), inputs=())", "step raised TypeError"),
        ("def workload(): return Workload(model=torch.nn.Linear(5, 3), inputs=lambda seed: 3)", "returned a int"),
    ],
)
def test_a_workload_that_fails_is_told_in_one_line(place, capfd, body, message):
    assert message in refused(capfd, "capture", write(place, body), "-o", str(place / "run"), "--steps", "1")
    assert not (place / "run").exists() and sorted(p.name for p in place.iterdir() if p.name.startswith(".")) == []


def test_a_model_that_fails_late_leaves_nothing(place, capfd):
    body = (
        "class M(torch.nn.Module):\n"
        "    calls = 0\n"
        "    def forward(self, x):\n"
        "        self.calls += 1\n"
        "        if self.calls == 6: raise RuntimeError('late')\n"
        "        return x * 2\n"
        "def workload(): return Workload(model=M(), inputs=(torch.rand(3),))"
    )
    assert "late" in refused(capfd, "capture", write(place, body), "-o", str(place / "run"), "--steps", "2")
    assert not (place / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("capture", "nowhere.py:workload", "-o", "OUT"), "no file 'nowhere.py'"),
        (("capture", "good.py", "-o", "OUT"), "names no workload"),
        (("capture", "GOOD", "-o", "OUT", "--steps", "0"), "--steps 0"),
        (("capture", "GOOD", "-o", "OUT", "--threads", "-1"), "--threads -1"),
        (("capture", "GOOD", "-o", "FILE"), "is a file"),
        (("capture", "GOOD", "-o", "OCCUPIED"), "holds other files"),
        (("show", "nowhere"), "no folder 'nowhere'"),
        (("show", "OCCUPIED"), "is no saved run"),
        (("show", "nowhere", "--ops", "-1"), "--ops -1"),
    ],
)
def test_bad_arguments_are_told_in_one_line(place, capfd, arguments, message):
    names = {
        "GOOD": f"{place / 'good.py'}:workload", "OUT": str(place / "run"), "FILE": str(place / "good.py"),
        "OCCUPIED": str(place),
    }  # fmt: skip
    assert message in refused(capfd, *(names.get(argument, argument) for argument in arguments))


def test_cuda_without_a_device_is_refused(place, capfd, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = refused(capfd, "capture", f"{place / 'good.py'}:workload", "-o", str(place / "run"), "--device", "cuda")
    assert "no CUDA device" in line


SLOW = """
import time, torch
from pathlib import Path
from analyzer.workload import Workload

class Slow(torch.nn.Module):
    def forward(self, x):
        Path(__file__).with_suffix(".started").touch()
        time.sleep(0.2)
        return x * 2

def workload():
    return Workload(model=Slow(), inputs=(torch.rand(3),))
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 128 + 15), (signal.SIGINT, 128 + 2)]
)
def test_a_killed_capture_leaves_no_folder(place, number, code):
    (place / "slow.py").write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, "-m", "analyzer", "capture", f"{place / 'slow.py'}:workload", "-o", str(place / "out/run")],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        while not (place / "slow.started").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == code and out == "" and "Traceback" not in err
    assert not (place / "out").exists() or not any((place / "out").iterdir())


def test_the_module_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "analyzer", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and "capture" in done.stdout and "show" in done.stdout
