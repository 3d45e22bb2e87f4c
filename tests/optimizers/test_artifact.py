"""Artifacts load without Hotbench, reproduce the outputs, and refuse to load when anything differs."""

from __future__ import annotations

import hashlib
import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from analyzer.errors import HotbenchError, RecordError
from analyzer.measurement import Estimate
from analyzer.reference import WorkloadReference
from optimizers import artifact as artifact_module
from optimizers.artifact import (
    Artifact,
    check_artifact,
    export_artifact,
    export_module,
    load_artifact,
    verify_artifact,
    without_folders,
)
from optimizers.candidate import make_candidate
from optimizers.fusion.api import fuse
from optimizers.fusion.module import FusedModule
from optimizers.plan import Applied, Plan
from tests.optimizers.fusion.interpreted import Function, assert_same


class Model(torch.nn.Module):
    """Regions, library calls, a random op, a constant and a nested result."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.GELU(), torch.nn.Linear(16, 6))
        self.norm = torch.nn.LayerNorm(6)
        self.register_buffer("table", torch.randn(1, 6).expand(4, 6))

    def forward(self, x: torch.Tensor, scale: float, more: dict[str, torch.Tensor]) -> Any:
        y = self.norm(x + self.body(x)) * scale + torch.tensor([1.0, 2, 3, 4, 5, 6])
        z = torch.tanh(y) + self.table + more["shift"] + 0 * torch.rand(4, 6)
        return {"y": y, "pair": (z, [z.sum(1), x]), "order": z.argsort(1)}


def _inputs(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    x, shift = (torch.randn(4, 6, generator=generator) for _ in range(2))
    return (x, 0.5), {"more": {"shift": shift}}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Model, Path, Artifact]]:
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    model = Model().eval()
    args, kwargs = _inputs(0)
    fused = fuse(model, args, kwargs, min_gain=-100.0)
    assert isinstance(fused, FusedModule), fused
    folder = tmp_path_factory.mktemp("artifacts") / "model"
    artifact = export_module(fused, args, kwargs, folder, {"experiment.json": b"{}"})
    yield model, folder, artifact
    torch.set_num_threads(before)


def test_export_reports_what_it_wrote(exported: tuple[Model, Path, Artifact]) -> None:
    _, folder, artifact = exported
    assert artifact.max_abs_error_after_reload <= 1e-6
    assert artifact.sha256 == check_artifact(folder)
    assert set(artifact.files) == {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {
        "manifest.json"
    }
    assert not list(folder.parent.glob(".*"))


def test_loaded_model_is_eagers_twin_on_fresh_inputs(exported: tuple[Model, Path, Artifact]) -> None:
    model, folder, artifact = exported
    loaded = load_artifact(folder, artifact.sha256)
    assert isinstance(loaded, torch.nn.Module)
    assert set(loaded.state_dict()) == set(model.state_dict())
    for seed in (1, 2):
        args, kwargs = _inputs(seed)
        with torch.no_grad():
            assert_same(loaded(*args, **kwargs), model(*args, **kwargs))


def test_loaded_model_sees_its_weights_change(exported: tuple[Model, Path, Artifact]) -> None:
    model, folder, _ = exported
    loaded = load_artifact(folder)
    args, kwargs = _inputs(3)
    with torch.no_grad():
        before = loaded(*args, **kwargs)["y"].clone()
        loaded.norm.bias.add_(1.0)
        assert torch.allclose(loaded(*args, **kwargs)["y"], before + 0.5)
        loaded.norm.bias = torch.nn.Parameter(model.norm.bias.detach().clone(), requires_grad=False)
        assert torch.allclose(loaded(*args, **kwargs)["y"], before)


def test_other_uses_are_refused_in_one_line(exported: tuple[Model, Path, Artifact]) -> None:
    loader = runpy.run_path(str(exported[1] / "load.py"))
    loaded, error = loader["load"](), loader["ArtifactError"]
    (x, scale), more = _inputs(0)
    with pytest.raises(error, match=r"input 0 is float32 \[3, 6\]; this artifact was made for float32 \[4, 6\]"):
        loaded(x[:3], scale, **more)
    with pytest.raises(error, match="input 0 is float64"):
        loaded(x.double(), scale, **more)
    with pytest.raises(error, match=r"input 1 is 0.7; this artifact was made for 0.5"):
        loaded(x, 0.7, **more)
    with pytest.raises(error, match="should have the keys more"):
        loaded(x, scale)
    with pytest.raises(error, match="inference only"):
        loaded.train()
    transposed = x.t().contiguous().t()
    assert_same(loaded(transposed, scale, **more)["y"], loaded(x, scale, **more)["y"])


def _tampered(folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    return copy


@pytest.mark.parametrize(
    "name", ["program.py", "weights.safetensors", "load.py", "kernels/hotbench_prelude.py", "example.safetensors"]
)
def test_changed_file_is_refused(exported: tuple[Model, Path, Artifact], tmp_path: Path, name: str) -> None:
    copy = _tampered(exported[1], tmp_path)
    data = bytearray((copy / name).read_bytes())
    data[-2] ^= 1
    (copy / name).write_bytes(bytes(data))
    with pytest.raises(RecordError, match=f"{name} differs from its hash"):
        load_artifact(copy)
    if name != "load.py":
        loader = runpy.run_path(str(exported[1] / "load.py"))
        with pytest.raises(loader["ArtifactError"], match=f"{name} differs from its hash"):
            loader["load"](copy)


@pytest.mark.parametrize("name", ["program.py", "weights.safetensors", "manifest.json"])
def test_missing_file_is_refused(exported: tuple[Model, Path, Artifact], tmp_path: Path, name: str) -> None:
    copy = _tampered(exported[1], tmp_path)
    (copy / name).unlink()
    with pytest.raises(RecordError, match=name):
        verify_artifact(copy)
    loader = runpy.run_path(str(exported[1] / "load.py"))
    with pytest.raises(loader["ArtifactError"], match=name):
        loader["load"](copy)


def test_another_artifact_than_the_expected_is_refused(exported: tuple[Model, Path, Artifact], tmp_path: Path) -> None:
    copy = _tampered(exported[1], tmp_path)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "experiment.json").write_text("{ }")
    manifest["files"]["experiment.json"] = hashlib.sha256(b"{ }").hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert check_artifact(copy) != exported[2].sha256
    with pytest.raises(RecordError, match="is not the artifact that was exported"):
        verify_artifact(copy, exported[2].sha256)
    with pytest.raises(RecordError, match="is not the artifact that was exported"):
        load_artifact(copy, exported[2].sha256)


def test_documented_line_works_in_a_fresh_process_elsewhere(
    exported: tuple[Model, Path, Artifact], tmp_path: Path
) -> None:
    copy = _tampered(exported[1], tmp_path / "elsewhere")
    line = exported[2].loads_with.replace("DIR", str(copy))
    call = "model(torch.ones(4, 6), 0.5, more={'shift': torch.ones(4, 6)})"
    code = f"import runpy, torch; {line}; print({call}['y'].shape)"
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "torch.Size([4, 6])", done.stderr
    assert not list(copy.rglob("__pycache__"))


def test_loader_as_a_script_checks_itself(exported: tuple[Model, Path, Artifact], tmp_path: Path) -> None:
    copy = _tampered(exported[1], tmp_path)
    command = [sys.executable, "-I", str(copy / "load.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and json.loads(done.stdout)["max_abs_error"] <= 1e-6
    (copy / "program.py").unlink()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "program.py is missing" in done.stderr


def test_artifact_holds_no_pickle_and_no_path_of_this_machine(exported: tuple[Model, Path, Artifact]) -> None:
    for path in exported[1].rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            text = path.read_text()
            assert "pickle" not in text and str(Path.home()) not in text and str(Path.cwd()) not in text, path


def test_ops_of_other_libraries_are_refused() -> None:
    library = torch.library.Library("hotbench_test_artifact", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x * 2, "CompositeExplicitAutograd")
    library.impl("twice", torch.empty_like, "Meta")
    model = Function(lambda x: torch.tanh(torch.ops.hotbench_test_artifact.twice(x)) + 1)
    fused = fuse(model, (torch.randn(3, 4),), min_gain=-100.0)
    assert isinstance(fused, FusedModule), fused
    with pytest.raises(HotbenchError, match="another library registers"):
        export_module(fused, (torch.randn(3, 4),), {}, Path("never-written"), {})
    assert not Path("never-written").exists()


def test_fusion_of_training_is_refused_with_what_to_do_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan("plan-1", "run-1", "fusion", {}, (), Estimate(1.0, 2.0, 3.0, "x", "a test"), "fuses")
    reference = WorkloadReference("/nowhere/train.py", "workload", "0" * 64, "0" * 64)
    candidate = make_candidate("run-1", reference, (Applied(plan, {"training": True, "graphs": []}),))
    experiment: Any = SimpleNamespace(id="experiment-1", parent=candidate.id, verdict="faster", reason="2x")
    monkeypatch.setattr(artifact_module, "rebuild_candidate", lambda _: pytest.fail("nothing is to be rebuilt"))
    with pytest.raises(HotbenchError, match="training workload has no artifact") as raised:
        export_artifact(candidate, experiment, tmp_path / "model")
    assert 'torch.compile(model, backend="hotbench")' in str(raised.value) and "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_what_is_handed_out_names_files_without_the_folders_they_lie_in():
    reference = {"path": "/home/ada/secret/lstm.py", "function": "workload", "seed": 0}
    kept = {"arguments": [reference, {"candidate": "/store/candidate-1"}], "reason": "1.5x; a/b", "ratio": 1.5}
    assert without_folders(kept) == {
        "arguments": [{**reference, "path": "lstm.py"}, {"candidate": "candidate-1"}], "reason": "1.5x; a/b",
        "ratio": 1.5,
    }  # fmt: skip
