"""One kernel of a saved candidate as a folder, for inference and for training; and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from analyzer.diagnosis.finding import Diagnosis
from analyzer.errors import HotbenchError
from analyzer.workload import load_workload
from optimizers.candidate import make_candidate
from optimizers.fusion import backend_training, backend_trial
from optimizers.fusion.optimizer import Fusion, FusionOptions
from optimizers.fusion.proof_record import FILE, Proof, load_proof
from optimizers.fusion.timing import Comparison
from optimizers.plan import Candidate, Plan, Refusal
from optimizers.reproducer import export_reproducer
from tests.synthetic import Call, make_run

SOURCE = """
import torch
from analyzer.workload import Workload, seeded

class Gate(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(19, 19)

    def forward(self, x):
        h = torch.tanh(self.inner(x)) * torch.sigmoid(x) + 0.5 * x
        return torch.nn.functional.layer_norm(h, (19,)).exp()

def inputs(seed):
    return (torch.randn(5, 19, generator=seeded(seed)),), {}

def workload():
    return Workload(model=Gate(), inputs=inputs)

def training():
    model = Gate()
    return Workload(model=model, inputs=inputs, loss=lambda output, batch: output.square().mean(),
                    optimizer=torch.optim.SGD(model.parameters(), 0.1))
"""


def _candidate(tmp_path: Path, function: str) -> Candidate:
    (tmp_path / "gate.py").write_text(SOURCE)
    workload, reference = load_workload(f"{tmp_path / 'gate.py'}:{function}")
    calls = [Call(name, 5e-6, (k - 1,) if k else ()) for k, name in enumerate(["aten::tanh", "aten::mul"] * 3)]
    plan = Fusion().plan(make_run(calls), Diagnosis("diagnosis-0", "run-0", ()), FusionOptions())
    assert isinstance(plan, Plan)
    plan.options["min_gain"] = -100.0
    answer = Fusion().apply(workload, plan)
    assert not isinstance(answer, Refusal), answer
    return make_candidate("run-0", reference, (answer[1],))


def _proof(candidate: Candidate) -> Proof:
    return load_proof(candidate.applied[0].blobs[FILE])


def _exported(candidate: Candidate, kernel: str, folder: Path) -> dict[str, object]:
    made = export_reproducer(candidate, kernel, folder)
    assert made.kernel == kernel and made.runs_with == "python DIR/reproduce.py"
    command = [sys.executable, "-I", str(folder / "reproduce.py"), "--rounds", "1", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=folder.parent)
    assert ended.returncode == 0, ended
    found: dict[str, object] = json.loads(ended.stdout)
    return found


def test_a_kernel_of_a_candidate_runs_by_itself(tmp_path: Path) -> None:
    candidate = _candidate(tmp_path, "workload")
    proof = _proof(candidate)
    kept = [region for region in proof.regions if region.kept]
    assert kept and proof.seconds and {way.name for way in proof.whole} >= {"eager", "fused"}
    found = _exported(candidate, kept[0].kernel, tmp_path / "one")
    assert found["right"] is True and found["kernel"] == kept[0].kernel


def _faster(*_arguments: object, **_settings: object) -> Comparison:
    return Comparison(0.002, 0.001, 2.0, 1.9, 2.1, 9)


def test_forward_and_backward_of_training_are_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Kept whatever the machine is busy with: this is about proving, not about speed.
    monkeypatch.setattr(backend_training, "compare", _faster)
    monkeypatch.setattr(backend_trial, "compare", _faster)
    candidate = _candidate(tmp_path, "training")
    proof = _proof(candidate)
    kinds = {name.partition("_")[0] for name in proof.graphs}
    assert kinds and kinds <= {"forward", "backward"}
    kept = [region for region in proof.regions if region.kept]
    assert kept and all(region.errors is None or region.errors.max_rel < 1e-5 for region in kept)
    assert _exported(candidate, kept[-1].kernel, tmp_path / "one")["right"] is True


def test_a_candidate_without_kernels_is_refused_in_words(tmp_path: Path) -> None:
    candidate = _candidate(tmp_path, "workload")
    bare = Candidate("candidate-0", "run-0", candidate.reference, ())
    with pytest.raises(HotbenchError, match="no generated kernels"):
        export_reproducer(bare, "region_1", tmp_path / "one")
    assert not (tmp_path / "one").exists()
    with pytest.raises(HotbenchError, match="is no kernel of this program; choose one of"):
        export_reproducer(candidate, "nowhere", tmp_path / "one")
