"""Artifacts: the optimized model as a folder that loads with torch and numba, without Hotbench."""

from __future__ import annotations

import hashlib
import json
import math
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.errors import HotbenchError, RecordError
from analyzer.experiment import Experiment
from analyzer.identity import content_id
from analyzer.record import dump_json, read_folder, to_plain, write_folder
from optimizers.candidate import rebuild_candidate
from optimizers.fusion.export import artifact_files
from optimizers.fusion.module import FusedModule
from optimizers.plan import Candidate

KIND = "artifact"
TORCH, ONNX = "torch", "onnx"
FORMATS = (TORCH, ONNX)
"""What an artifact is written for."""
LOADS_WITH = 'model = runpy.run_path("DIR/load.py")["load"]()'
LOADS_ONNX_WITH = 'session = onnxruntime.InferenceSession("DIR/model.onnx")'
LOADS_SWAP_WITH = 'runpy.run_path("DIR/load.py")["apply"](model, optimizer)'
_PACKAGES = ("analyzer", "kernels", "optimizers", "app", "hotbench")
_TIMEOUT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Artifact:
    """What was exported.

    files:  their names in the folder. sha256: of the manifest, which holds the hash of each file.
    loads_with: the line that loads it, DIR being the folder; it needs torch and numba.
    max_abs_error_after_reload: max|a-b| between a fresh process's outputs and those stored at export.
    """

    artifact: str
    files: tuple[str, ...]
    sha256: str
    loads_with: str
    max_abs_error_after_reload: float


def export_artifact(candidate: Candidate, experiment: Experiment, folder: Path, format: str = TORCH) -> Artifact:
    """Write the candidate's model into `folder`, after it was loaded and checked in a fresh process elsewhere.

    format: "torch", which loads with torch and numba, or "onnx", for onnxruntime and others: int8 weights alone.
    Raises HotbenchError where the experiment is not about the candidate, did not prove it, or the kind of candidate
    has no artifact; RecordError where the folder cannot be written or the copy does not reproduce the outputs.
    """
    if experiment.parent != candidate.id:
        raise HotbenchError(f"experiment {experiment.id} is about {experiment.parent}, not about {candidate.id}")
    if experiment.verdict not in ("faster", "smaller"):
        ended = f"experiment {experiment.id} ended {experiment.verdict!r} ({experiment.reason})"
        raise HotbenchError(f"{ended}; only a proven candidate is exported")
    if format not in FORMATS:
        raise HotbenchError(f"the format {format!r} is not known; choose one of {', '.join(FORMATS)}")
    if format == ONNX:
        return export_onnx(candidate, experiment, folder)
    if [item.plan.optimizer for item in candidate.applied] == ["swap"]:
        return export_swap_plan(candidate, experiment, folder)
    if [item.plan.optimizer for item in candidate.applied] == ["placement"]:
        return export_placement(candidate, experiment, folder)
    if any(item.decisions.get("training") for item in candidate.applied):
        raise HotbenchError(
            "the fusion of a training workload has no artifact: its programs belong to torch.compile; "
            'import hotbench in the training script and call torch.compile(model, backend="hotbench") there'
        )
    model = rebuild_candidate(candidate)
    args, kwargs = model.batch(0)
    proof = _proof(candidate, experiment)
    if isinstance(model.model, FusedModule):
        return export_module(model.model, args, kwargs, folder, proof)
    names = [item.plan.optimizer for item in candidate.applied]
    if names == ["quantization"]:
        # Here, as it loads torch.export: an artifact of a fused model needs none of it.
        from optimizers.quantization.export import candidate_files

        files = candidate_files(model.model, candidate.applied[0].blobs, args, kwargs)
        return _write_proved({**files, **proof}, folder, verify_artifact, LOADS_WITH)
    raise HotbenchError(f"a candidate of {', '.join(names)} has no artifact; export one of fusion or quantization")


def loads_with(format: str) -> str:
    """Return the line that loads an artifact of a model, DIR being its folder."""
    return LOADS_ONNX_WITH if format == ONNX else LOADS_WITH


def _proof(candidate: Candidate, experiment: Experiment) -> dict[str, bytes]:
    """Return the files that say what was exported and what was measured of it."""
    return {
        "candidate.json": dump_json(without_folders(to_plain(candidate.reference))),
        "experiment.json": dump_json(without_folders(to_plain(experiment))),
    }


def export_onnx(candidate: Candidate, experiment: Experiment, folder: Path) -> Artifact:
    """Write a compressed candidate's model as ONNX into `folder`, after onnxruntime gave the measured answers with it.

    Raises HotbenchError for what ONNX cannot carry: another optimizer's work, weights that are not int8.
    """
    names = [item.plan.optimizer for item in candidate.applied]
    if names != ["quantization"]:
        raise HotbenchError(
            f"a candidate of {', '.join(names)} has no ONNX form: it is code of its own; export without --format onnx, "
            "or optimize with quantization alone"
        )
    # Here, as it loads torch.export: other artifacts need none of it.
    from optimizers.quantization.onnx_artifact import check_files as check_onnx
    from optimizers.quantization.onnx_artifact import onnx_files

    (applied,) = candidate.applied
    model = rebuild_candidate(candidate)
    files = {**onnx_files(model.model, applied, *model.batch(0)), **_proof(candidate, experiment)}

    def check(written: Path) -> float:
        with tempfile.TemporaryDirectory(prefix="hotbench-verify-") as elsewhere:
            return check_onnx(written, applied, lambda given: _run([sys.executable, "-I", *given], elsewhere))

    return _write_proved(files, folder, check, LOADS_ONNX_WITH)


def export_placement(candidate: Candidate, experiment: Experiment, folder: Path) -> Artifact:
    """Write the bucket plan, the launch lines and the hook into `folder`, after two fresh workers ran a step with them.

    Raises RecordError where the folder cannot be written or the workers' gradients are not the mean of their own.
    """
    # Here, as it reads the transport's sources: an artifact of a model needs none of them.
    from optimizers.placement.export import LOADS_WITH as LOADS_PLACEMENT_WITH
    from optimizers.placement.export import artifact_files as placement_files
    from optimizers.placement.export import check_files as check_placement
    from optimizers.placement.optimizer import buckets_of

    files = {**placement_files(buckets_of(candidate.applied[0])), **_proof(candidate, experiment)}
    return _write_proved(files, folder, check_placement, LOADS_PLACEMENT_WITH)


def export_swap_plan(candidate: Candidate, experiment: Experiment, folder: Path) -> Artifact:
    """Write a fitted training step's plan and engine into `folder`, after they ran as well as the step without them.

    Raises RecordError where the folder cannot be written or the step with the artifact ends in other parameters.
    """
    # Here, as it loads the engine: an artifact of a model needs none of it.
    from optimizers.swap.export import PLAN_FILE, check_files
    from optimizers.swap.export import artifact_files as swap_files

    files = {**swap_files(candidate.applied[0].blobs[PLAN_FILE]), **_proof(candidate, experiment)}

    def check(written: Path) -> float:
        error = check_files(written, candidate.reference)
        if error:
            raise RecordError(f"with the artifact the parameters end up {error:g} apart; optimize the run again")
        return error

    return _write_proved(files, folder, check, LOADS_SWAP_WITH)


def export_module(
    module: FusedModule, args: tuple[Any, ...], kwargs: Mapping[str, Any], folder: Path, extra: Mapping[str, bytes]
) -> Artifact:
    """Write a fused module with the example `args`, `kwargs` into `folder`; `extra` files go with it."""
    files = {**artifact_files(module, args, kwargs), **extra}
    return _write_proved(files, folder, verify_artifact, LOADS_WITH)


def _write_proved(
    files: Mapping[str, bytes], folder: Path, check: Callable[[Path], float], loads_with: str
) -> Artifact:
    """Write the files; the folder appears only once a copy of it has passed the check, which returns its error."""
    identity = content_id(KIND, {name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        trial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".trial", dir=folder.parent))
    except OSError as error:
        raise RecordError(
            f"cannot write to {folder.parent}: {error.strerror or error}; choose another place"
        ) from error
    try:
        write_folder(trial / "artifact", dict(files), KIND, identity)
        error_after_reload = check(trial / "artifact")
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    manifest = write_folder(folder, dict(files), KIND, identity)
    return Artifact(identity, tuple(sorted(files)), manifest.digest(), loads_with, error_after_reload)


def without_folders(value: Any) -> Any:
    """Return plain JSON whose absolute paths are file names alone: an artifact goes to others, the folders do not."""
    if isinstance(value, dict):
        return {name: without_folders(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def verify_artifact(folder: Path, expected_sha256: str | None = None) -> float:
    """Return max|a-b| between the stored outputs and those of a fresh process that cannot import Hotbench.

    Raises RecordError for a folder that is incomplete, changed or not the expected one, or does not load.
    """
    check_artifact(folder, expected_sha256)
    with tempfile.TemporaryDirectory(prefix="hotbench-verify-") as elsewhere:
        answer = _run([sys.executable, "-I", "-c", _CHECK, str(folder.absolute()), ",".join(_PACKAGES)], elsewhere)
    error = float(answer["max_abs_error"])
    if not math.isfinite(error):
        raise RecordError(
            f"{folder} does not reproduce its stored outputs (shape, dtype or NaN differ); export it again"
        )
    return error


def check_artifact(folder: Path, expected_sha256: str | None = None) -> str:
    """Return the hash of an artifact's manifest. Raises RecordError if a file or that hash differs."""
    found = read_folder(folder, KIND).digest()
    if expected_sha256 is not None and found != expected_sha256:
        raise RecordError(
            f"{folder} is not the artifact that was exported: its hash is {found[:12]}, not {expected_sha256[:12]}"
        )
    return found


def load_artifact(folder: Path, expected_sha256: str | None = None, model: Any = None) -> Any:
    """Return the model of an artifact, ready to call. Raises RecordError for a folder that is not whole.

    model: the float model that compressed weights go into; for a folder of `hotbench.save` that has no program.
    """
    if model is not None:
        from optimizers.quantization.save import load_into

        return load_into(folder, model, expected_sha256)
    check_artifact(folder, expected_sha256)
    if (folder / "model.onnx").is_file():
        raise RecordError(f"{folder} holds an ONNX model; load {folder / 'model.onnx'} with onnxruntime")
    if not (folder / "load.py").is_file():
        raise RecordError(f"{folder} holds weights without a program; give the float model: load(folder, model=model)")
    loader = runpy.run_path(str(folder.absolute() / "load.py"))
    try:
        return loader["load"]()
    except loader["ArtifactError"] as error:
        raise RecordError(str(error)) from error


_CHECK = """
import json, runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[2].split(","):
            raise ImportError(f"an artifact must not import {name}")

sys.meta_path.insert(0, Blocked())
loader = runpy.run_path(sys.argv[1] + "/load.py")
try:
    print(json.dumps({"max_abs_error": loader["check"](loader["load"]())}))
except loader["ArtifactError"] as error:
    print(json.dumps({"error": str(error)}))
"""


def _run(command: list[str], folder: str) -> dict[str, Any]:
    """Return the JSON that a fresh process prints last; the whole process group ends with it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=_TIMEOUT_SECONDS)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise RecordError(f"the artifact did not load within {_TIMEOUT_SECONDS} s; export it again") from error
        raise
    try:
        answer: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError) as error:
        last = (errors.strip().splitlines() or ["no message"])[-1]
        raise RecordError(f"the artifact does not load in a fresh process: {last}") from error
    if "error" in answer:
        raise RecordError(answer["error"])
    return answer
