"""`profile` captures in a process of its own: whatever happens there is one line, and nothing half-done is listed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app import cli
from app.store import open_store

ROOT = Path(__file__).parents[2]
WORKLOADS = """
import os, signal, sys, time
import torch
from analyzer.workload import Workload


def workload():
    print("building", flush=True)
    return Workload(model=torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh()), inputs=(torch.randn(3, 5),))


def raises():
    raise ValueError("no\\nweights")


def other():
    return 7


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def hangs():
    print("hanging", flush=True)
    time.sleep(600)


def full():
    def no_space(handle):
        raise OSError(28, "No space left on device")

    os.fsync = no_space
    return workload()
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.py"
    path.write_text(WORKLOADS)
    return path


def entries(place):
    with open_store(str(place)) as store:
        return store.entries()


def test_a_capture_is_saved_and_shown(file, tmp_path, capfd):
    arguments = [
        f"{file}:workload",
        "--steps",
        "5",
        "--threads",
        "1",
        "--device",
        "cpu",
        "--store",
        str(tmp_path / "s"),
    ]
    assert cli.main(["profile", *arguments, "--json"]) == 0
    out, err = capfd.readouterr()
    data = json.loads(out)
    assert {
        "run", "device", "ops", "edges", "step_seconds", "throughput", "overhead", "peak_bytes", "coverage",
    } <= set(data)  # fmt: skip
    assert {"timed_ops", "joined_ops", "categorised_bytes"} <= set(data["coverage"])
    assert "building" in err and '{"run"' not in err
    (entry,) = entries(tmp_path / "s")
    assert entry.id == data["run"] and entry.name == "small.py:workload"
    assert entry.summary["step_seconds"] == data["step_seconds"]["median"]
    assert sorted(path.name for path in (tmp_path / "s" / "blobs").iterdir()) == ["run", "store-id"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.py:workload", "no file "),
        (
            "small.py:nothing",
            "small.py has no function 'nothing'; it has: full, hangs, killed, other, raises, workload",
        ),
        ("small.py:raises", "small.py:raises() raised ValueError: no weights"),
        ("small.py:other", "small.py:other() returned a int"),
        ("small.py:killed", "capture was killed by signal 9 (SIGKILL); nothing was saved"),
        ("small.py:full", "No space left on device; free space"),
        ("small.py", "names no workload; write path/to/file.py:function"),
    ],
)
def test_what_goes_wrong_is_one_line_and_nothing_is_listed(file, tmp_path, capfd, name, message):
    place = tmp_path / "s"
    assert cli.main(["profile", str(file.parent / name), "--steps", "5", "--json", "--store", str(place)]) == 2
    out, err = capfd.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("hotbench: error: ")]
    assert out == "" and len(lines) == 1 and message in lines[0] and "Traceback" not in err
    assert entries(place) == ()
    assert [path.name for path in (place / "blobs").iterdir()] == ["store-id"]


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupted_profile_ends_its_capture_and_keeps_nothing(file, tmp_path, number, code, word):
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "profile", f"{file}:hangs", "--store", str(tmp_path / "s")],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        for line in process.stderr:
            if line == "hanging\n":
                break
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert (process.returncode, out, err) == (code, "", f"hotbench: {word}; nothing half-done was kept\n")
    assert entries(tmp_path / "s") == ()
    marks = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [mark for mark in marks if str(file).encode() in mark]
