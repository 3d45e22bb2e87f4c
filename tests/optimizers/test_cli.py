"""`python -m optimizers` over folders: what is printed, and the exit codes."""

import json
import re
from pathlib import Path

import pytest

from analyzer.capture import capture
from analyzer.run import save_run
from analyzer.workload import load_workload
from optimizers.cli import main

INFERENCE = """
import torch
from analyzer.workload import Workload, seeded

class Chain(torch.nn.Module):
    def forward(self, x):
        for _ in range(6):
            x = torch.tanh(x * 1.5 + 0.1)
        return x

def workload():
    return Workload(model=Chain(), inputs=lambda seed: ((torch.randn(3, 7, generator=seeded(seed)),), {}))

def training():
    model = torch.nn.Linear(3, 2)
    return Workload(model=model, inputs=lambda seed: ((torch.randn(5, 3, generator=seeded(seed)),), {}),
                    loss=lambda output, batch: output.square().mean(), optimizer=torch.optim.SGD(model.parameters()))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("optimizers")
    (place / "model.py").write_text(INFERENCE)
    for function in ("workload", "training"):
        workload, reference = load_workload(f"{place / 'model.py'}:{function}")
        save_run(capture(workload, reference, steps=5, threads=1), place / function)
    return place


def output_of(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def test_diagnose_prints_findings(folder, capsys):
    assert main(["diagnose", str(folder / "workload")]) == 0
    findings = output_of(capsys)["findings"]
    assert findings[0]["rule"] == "dispatch-bound" and findings[0]["optimizer"] == "fusion"


def test_plan_changes_nothing_and_predicts(folder, capsys):
    assert main(["plan", str(folder / "workload"), "--with", "fusion", "--set", "fusion.min_gain=0.1"]) == 0
    (plan,) = output_of(capsys)["plans"]
    assert plan["options"]["min_gain"] == 0.1
    assert plan["estimate"]["low"] <= plan["estimate"]["mid"] <= plan["estimate"]["high"]


def test_a_refusal_is_told_and_exits_1(folder, capsys, tmp_path):
    arguments = ["optimize", str(folder / "training"), "--with", "fusion", "-o", str(tmp_path / "out")]
    assert main(arguments) == 1
    summary = output_of(capsys)
    assert summary["verdict"] == "refused" and summary["kept"] is False
    assert re.search("not faster than eager|nothing to fuse|no region", summary["reason"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["diagnose", "nowhere"], "no folder 'nowhere'"),
        (["plan", "RUN", "--with", "magic"], "no optimizer 'magic'"),
        (["plan", "RUN", "--with", "fusion", "--set", "fusion.min_gain=much"], "write a number"),
        (["export", "nowhere", "-o", "out"], "no folder"),
    ],
)
def test_bad_input_is_one_line_and_exits_2(folder, capsys, arguments, message):
    filled = [str(folder / "workload") if argument == "RUN" else argument for argument in arguments]
    assert main(filled) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
