from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import hotbench
from analyzer.errors import HotbenchError, RecordError
from analyzer.measurement import Estimate
from analyzer.peak import state_bytes, stored_bytes
from analyzer.workload import load_workload
from optimizers.artifact import export_artifact
from optimizers.candidate import make_candidate, rebuild_candidate
from optimizers.fusion.module import FusedModule
from optimizers.fusion.optimizer import Fusion
from optimizers.plan import Applied, Candidate, Plan
from optimizers.quantization.compressed import CODEBOOK, INT8, LOW_RANK, SPARSE
from optimizers.quantization.encode import WEIGHTS_FILE, encode
from optimizers.quantization.export import candidate_files
from optimizers.quantization.methods import compress_weight
from optimizers.quantization.methods.weight import WeightInputs
from optimizers.quantization.program_load import EXAMPLE_FILE, check_program, load_program
from optimizers.quantization.rules import Rule
from optimizers.quantization.targets import matrix
from tests.optimizers.quantization.weights import compressed

SMALL = Path(__file__).with_name("small.py")
HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="onnx, onnxscript, onnxruntime are of requirements-bench.txt")


@dataclass(frozen=True)
class Proven:
    """What an export reads of an experiment."""

    parent: str
    id: str = "experiment-000000000001"
    verdict: str = "smaller"
    reason: str = ""


def candidate_of(methods: Mapping[str, str | Rule], coding: str = "plain", function: str = "tagger") -> Candidate:
    """Return a candidate whose named weights are compressed, tied ones once."""
    workload, reference = load_workload(f"{SMALL}:{function}")
    model, made = workload.model, {}
    weights = {}
    for name, method in methods.items():
        parameter = model.get_parameter(name)
        if id(parameter) not in made:
            by_rule = isinstance(method, Rule)
            given = (
                compress_weight(WeightInputs(matrix(parameter)), method) if by_rule else compressed(method, parameter)
            )
            made[id(parameter)] = given
        weights[name] = made[id(parameter)]
    activations = {name.rpartition(".")[0]: "dynamic" for name in methods}
    files = encode(weights, {"activations": activations, "coding": coding}, coding=coding)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    plan = Plan(
        "plan-000000000001", "run-000000000001", "quantization", {}, (), Estimate(1, 1, 1, "x", ""), "some layers"
    )
    return make_candidate("run-000000000001", reference, (Applied(plan, {"files": hashes}, files),))


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    return candidate_of({"embed.weight": CODEBOOK, "mix.weight": INT8, "head.weight": INT8})


def export(candidate: Candidate, folder: Path, **options: str):  # type: ignore[no-untyped-def]
    return export_artifact(candidate, Proven(candidate.id), folder, **options)  # type: ignore[arg-type]


def test_a_compressed_candidate_becomes_an_artifact_that_is_smaller_and_gives_the_same_bits(
    candidate: Candidate, tmp_path: Path
) -> None:
    artifact = export(candidate, tmp_path / "model")
    assert artifact.max_abs_error_after_reload == 0.0
    assert {"candidate.json", "experiment.json", "model.pt2", "load.py"} <= set(artifact.files)
    workload = rebuild_candidate(candidate)
    loaded = hotbench.load(tmp_path / "model", artifact.sha256)
    for seed in (3, 4):
        args, kwargs = workload.batch(seed)
        with torch.no_grad():
            assert torch.equal(loaded(*args, **kwargs), workload.model(*args, **kwargs))
    whole, kept = (sum(value.nbytes for value in values) for values in (
        load_workload(f"{SMALL}:tagger")[0].model.parameters(),
        [workload.model.get_parameter("again.weight")],
    ))  # fmt: skip
    assert (tmp_path / "model" / WEIGHTS_FILE).stat().st_size < kept + (whole - kept) / 2.5


def test_a_candidate_without_its_weights_is_refused(candidate: Candidate) -> None:
    with pytest.raises(RecordError, match="recipe.json is missing"):
        candidate_files(torch.nn.Identity(), {}, (), {})


def test_the_artifacts_check_computes_from_the_stored_inputs(candidate: Candidate, tmp_path: Path) -> None:
    workload = rebuild_candidate(candidate)
    args, kwargs = workload.batch(0)
    for name, content in candidate_files(workload.model, candidate.applied[0].blobs, args, kwargs).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    stored = load_file(tmp_path / EXAMPLE_FILE)
    assert set(stored) == {"input.0", "output.0"} and np.array_equal(stored["input.0"], args[0].numpy())
    loaded = load_program(tmp_path)
    assert check_program(loaded, tmp_path) == 0.0
    stored["input.0"] = (stored["input.0"] + 1) % 113
    save_file(stored, tmp_path / EXAMPLE_FILE)
    assert check_program(loaded, tmp_path) > 0
    save_file({"output.0": stored["output.0"]}, tmp_path / EXAMPLE_FILE)
    with pytest.raises(RecordError, match="does not hold the 1 inputs"):
        check_program(loaded, tmp_path)


def test_pruned_thin_and_huffman_coded_weights_are_small_in_the_file_and_give_the_same_bits(tmp_path: Path) -> None:
    pruned = Rule("*", "kmeans", 4, sparsity=0.6)
    methods = {"embed.weight": pruned, "mix.weight": LOW_RANK, "again.weight": SPARSE, "out.weight": SPARSE}
    made = candidate_of(methods, "huffman")
    artifact = export(made, tmp_path / "model")
    assert artifact.max_abs_error_after_reload == 0.0
    recipe = json.loads((tmp_path / "model" / "recipe.json").read_bytes())
    assert recipe["weights"]["embed.weight"]["coding"] == "huffman" and "same_as" in recipe["weights"]["out.weight"]
    workload = rebuild_candidate(made)
    written = (tmp_path / "model" / WEIGHTS_FILE).stat().st_size
    assert 0 <= written - stored_bytes(workload.model) < 1024
    before = load_workload(f"{SMALL}:tagger")[0].model
    assert stored_bytes(workload.model) < state_bytes(before) == stored_bytes(before)
    args, kwargs = workload.batch(7)
    with torch.no_grad():
        assert torch.equal(hotbench.load(tmp_path / "model")(*args, **kwargs), workload.model(*args, **kwargs))


ALL_INT8 = dict.fromkeys(("embed.weight", "mix.weight", "again.weight", "out.weight"), INT8)


@needs_onnx
def test_an_int8_candidate_becomes_an_onnx_model_that_gives_the_measured_answers(tmp_path: Path) -> None:
    artifact = export(candidate_of({**ALL_INT8, "head.weight": LOW_RANK}), tmp_path / "model", format="onnx")
    assert {"model.onnx", "check.py", EXAMPLE_FILE, "candidate.json", "experiment.json"} == set(artifact.files)
    assert artifact.loads_with == 'session = onnxruntime.InferenceSession("DIR/model.onnx")'
    stored = load_file(tmp_path / "model" / EXAMPLE_FILE)
    assert 0 < artifact.max_abs_error_after_reload < 0.05 * np.abs(stored["output.0"]).max()
    command = [sys.executable, "-I", str(tmp_path / "model" / "check.py")]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout)
    assert told["max_abs_error"] == artifact.max_abs_error_after_reload and told["cosine"] > 0.999
    before = state_bytes(load_workload(f"{SMALL}:tagger")[0].model)
    assert (tmp_path / "model" / "model.onnx").stat().st_size < before / 2
    with pytest.raises(RecordError, match="holds an ONNX model; load .*model.onnx with onnxruntime"):
        hotbench.load(tmp_path / "model")
    save_file({**stored, "output.0": -stored["output.0"]}, tmp_path / "model" / EXAMPLE_FILE)
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout)
    assert told["cosine"] < -0.999


def test_what_onnx_cannot_carry_is_refused_in_one_line_and_leaves_nothing(
    candidate: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HotbenchError, match=r"embed\.weight is codebook; .*quantization\.method=int8") as caught:
        export(candidate, tmp_path / "model", format="onnx")
    assert "\n" not in str(caught.value)
    fused = Applied(Plan("plan-2", "run-1", "fusion", {}, (), Estimate(1, 1, 1, "x", ""), ""), {})
    both = make_candidate("run-1", candidate.reference, (*candidate.applied, fused))
    with pytest.raises(HotbenchError, match="a candidate of quantization, fusion has no ONNX form"):
        export(both, tmp_path / "model", format="onnx")
    with pytest.raises(HotbenchError, match="the format 'tflite' is not known; choose one of torch, onnx"):
        export(candidate, tmp_path / "model", format="tflite")
    if HAS_ONNX:
        from optimizers.quantization import onnx_artifact

        monkeypatch.setattr(onnx_artifact, "DEFAULT_COSINE", 1.1)
        with pytest.raises(RecordError, match=r"a cosine of 0\.99.* less than 1\.1"):
            export(candidate_of(ALL_INT8), tmp_path / "model", format="onnx")
    assert not list(tmp_path.iterdir())


def test_a_compressed_and_fused_encoder_becomes_one_artifact_that_gives_the_same_bits(tmp_path: Path) -> None:
    names = ("query", "key", "value", "out", "wide", "narrow")
    small = candidate_of({**{f"{name}.weight": INT8 for name in names}, "embed.weight": CODEBOOK}, function="encoder")
    plan = Plan(
        "plan-000000000002", "run-000000000001", "fusion", {"min_gain": -100.0}, (), Estimate(1, 1, 1, "x", ""), ""
    )
    done = Fusion().apply(rebuild_candidate(small), plan)
    assert isinstance(done, tuple), done
    both = make_candidate("run-000000000001", small.reference, (*small.applied, done[1]))
    workload = rebuild_candidate(both)
    assert isinstance(workload.model, FusedModule)
    artifact = export(both, tmp_path / "model")
    assert artifact.max_abs_error_after_reload == 0.0
    assert {"program.py", "load.py", "weights.safetensors"} <= set(artifact.files)
    args, kwargs = workload.batch(5)
    loaded = hotbench.load(tmp_path / "model", artifact.sha256)
    with torch.no_grad():
        assert torch.equal(loaded(*args, **kwargs), workload.model(*args, **kwargs))
    whole = state_bytes(load_workload(f"{SMALL}:encoder")[0].model)
    assert (tmp_path / "model" / "weights.safetensors").stat().st_size < whole / 2
