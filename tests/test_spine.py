"""The whole line as a user types it: profile, diagnose, optimize, export, report, and load the artifact elsewhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from analyzer.workload import Stepper, load_workload
from app import cli

ROOT = Path(__file__).parent.parent
LSTM = ROOT / "examples" / "lstm.py"
LITTLE = Path(__file__).parent / "measuring_little"
"""Experiments measure little here: the story in the browser measures as a user does."""


def hotbench(store: Path, *arguments: str, expect: int = 0) -> dict:
    """Return the JSON of one command run in a process of its own, from outside the checkout."""
    environment = {**os.environ, "HOTBENCH_STORE": str(store), "PYTHONPATH": str(LITTLE)}
    done = subprocess.run(
        [sys.executable, "-m", "app", *arguments, "--json"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=540,
    )  # fmt: skip
    assert done.returncode == expect, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spine")
    store = folder / "store"
    profile = hotbench(store, "profile", f"{LSTM}:workload", "--threads", "1")
    diagnosis = hotbench(store, "diagnose", profile["run"])
    optimized = hotbench(store, "optimize", profile["run"], "--with", "fusion")
    exported = hotbench(store, "export", optimized["experiment"], "-o", str(folder / "artifact"))
    reports = {
        suffix: hotbench(store, "report", optimized["experiment"], "-o", str(folder / f"report.{suffix}"))
        for suffix in ("html", "md")
    }
    return {
        "folder": folder, "store": store, "profile": profile, "diagnosis": diagnosis, "optimized": optimized,
        "exported": exported, "reports": reports,
    }  # fmt: skip


def test_the_run_has_over_a_thousand_ops_all_timed_and_joined(line):
    profile = line["profile"]
    assert profile["ops"] > 1000 and profile["edges"] > 1000
    assert profile["coverage"]["timed_ops"] == 1.0 and profile["coverage"]["joined_ops"] == 1.0
    assert set(profile["step_seconds"]) >= {"median", "low", "high", "p95", "p99"}
    assert profile["device"] == "cpu" or profile["device"]["kind"] == "cpu"
    assert {"run", "throughput", "overhead", "peak_bytes"} <= set(profile)


def test_the_diagnosis_names_the_small_ops_and_fusion(line):
    findings = line["diagnosis"]["findings"]
    assert findings[0]["id"].startswith("dispatch-bound")
    assert findings[0]["optimizer"] == "fusion"
    assert {"low", "mid", "high", "unit"} <= set(findings[0]["estimate"])


def test_fusion_is_kept_and_faster_with_the_same_answers(line):
    optimized = line["optimized"]
    assert optimized["verdict"] == "faster" and optimized["kept"] is True
    assert optimized["speedup"]["low"] > 1.0
    assert optimized["accuracy"]["max_rel"] <= 1e-5
    assert set(optimized["verdicts"]) == {"time", "memory", "size", "accuracy"}
    assert {"predicted", "memory_ratio", "size_ratio", "reason", "candidate", "experiment"} <= set(optimized)


def test_the_artifact_loads_in_a_fresh_process_without_the_checkout(line, tmp_path):
    workload, _ = load_workload(f"{LSTM}:workload")
    stepper = Stepper(workload, seed=11)
    (x,), _ = stepper.batch
    torch.save(x, tmp_path / "x.pt")
    code = (
        "import runpy, sys, torch\n"
        f"model = runpy.run_path({str(line['folder'] / 'artifact' / 'load.py')!r})['load']()\n"
        "assert not any(name.split('.')[0] in ('analyzer', 'optimizers', 'kernels', 'app') for name in sys.modules)\n"
        "torch.save(model(torch.load('x.pt')), 'y.pt')\n"
    )
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True, timeout=300)
    expected = stepper.step()
    difference = (torch.load(tmp_path / "y.pt") - expected).abs().max() / expected.abs().max()
    assert float(difference) <= 1e-5
    assert line["exported"]["max_abs_error_after_reload"] <= 1e-5
    assert {"artifact", "files", "sha256", "loads_with"} <= set(line["exported"])


def test_the_reports_tell_the_verdict(line):
    for suffix in ("html", "md"):
        text = Path(line["reports"][suffix]["file"]).read_text()
        assert "faster" in text and line["optimized"]["experiment"] in text


def test_a_plain_run_can_be_shown_and_compared_with_itself(line):
    run = line["profile"]["run"]
    shown = hotbench(line["store"], "show", run, "--ops", "5")
    assert len(shown["ops"]) == 5 and sum(op["share"] for op in shown["ops"]) <= 1.0 + 1e-9
    compared = hotbench(line["store"], "compare", run, run)
    assert compared["ops_added"] == compared["ops_removed"] == 0 or compared["ops_added"] == []
    assert compared["verdict"] == "inconclusive" and compared["interleaved"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("profile", "nowhere.py:workload"), "no file 'nowhere.py'"),
        (("profile", f"{LSTM}:nothing"), "no function 'nothing'"),
        (("show", "run-ffffffffffff"), "run-ffffffffffff"),
        (("optimize", "RUN", "--with", "magic"), "no optimizer 'magic'"),
        (("optimize", "RUN", "--with", "fusion", "--set", "fusion.nothing=1"), "no option 'nothing'"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(line, arguments, message, capsys):
    arguments = tuple(line["profile"]["run"] if argument == "RUN" else argument for argument in arguments)
    assert cli.main([*arguments, "--store", str(line["store"])]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert len(said.strip().splitlines()) == 1
