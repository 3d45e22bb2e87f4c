"""Part: one file of the GPU tests of tests/cuda, which compare with torch; they need pytest."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from benchmarks.gpu.findings import Failed, Found, Skip
from benchmarks.gpu.part import Task

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "cuda"
ALREADY_RUN = "tests/cuda/test_gpu.py::test_the_device_kernel_matches_the_float64_reference"  # the parts kernels-…


def tasks(stem: str) -> list[Task]:
    """Return the task of one file of GPU tests."""
    return [Task(stem, functools.partial(run_file, FOLDER / f"{stem}.py"))]


def run_file(file: Path) -> Found:
    """Return how many of the file's tests passed.

    Raises Skip without pytest, Failed naming the first failure.
    """
    if importlib.util.find_spec("pytest") is None:
        raise Skip("pytest is not installed here; run: pip install pytest")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        # No options of ours: they name plug-ins that need not be here.
        options = [
            "-m",
            "gpu",
            "--deselect",
            ALREADY_RUN,
            "-q",
            "-o",
            "addopts=",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:dash",
        ]
        command = [sys.executable, "-m", "pytest", str(file), *options, f"--junitxml={report}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        print(done.stdout, done.stderr, sep="\n")
        if not report.exists():
            lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
            raise RuntimeError(f"pytest gave no report: {lines[-1]}")
        return read_report(report.read_text())


def read_report(xml: str) -> Found:
    """Return what a JUnit report says, each test's state as a fact.

    Raises Failed where a test did, Skip where none ran.
    """
    states: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for test in ElementTree.fromstring(xml).iter("testcase"):
        name = test.get("name", "")
        outcome = next((child for child in test if child.tag in ("failure", "error", "skipped")), None)
        states[name] = "passed" if outcome is None else "skipped" if outcome.tag == "skipped" else "failed"
        if outcome is not None:
            reasons[name] = " ".join((outcome.get("message") or "").split())[:300]
    failed = [name for name, state in states.items() if state == "failed"]
    if failed:
        first = failed[0]
        raise Failed(f"{len(failed)} of {len(states)} tests failed: {first}: {reasons[first]}", {"tests": states})
    passed = sum(state == "passed" for state in states.values())
    if not passed:
        raise Skip(f"no test ran: {next(iter(reasons.values()), 'none was found')}")
    return Found(f"{passed} of {len(states)} tests passed", facts={"tests": states})
