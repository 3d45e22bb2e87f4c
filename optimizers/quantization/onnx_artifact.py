"""The ONNX artifact of a candidate whose model was compressed to int8, and its check by onnxruntime."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from analyzer.errors import HotbenchError, RecordError
from optimizers.plan import Applied
from optimizers.quantization.compressed import CompressedWeight
from optimizers.quantization.encode import RECIPE_FILE, WEIGHTS_FILE, decode
from optimizers.quantization.onnx_export import needed_packages, only_int8, save_onnx
from optimizers.quantization.program_load import EXAMPLE_FILE
from optimizers.quantization.program_save import example_tensors
from optimizers.quantization.tensor_file import written

MODEL_FILE, CHECK_FILE = "model.onnx", "check.py"
DEFAULT_COSINE = 0.99
"""The least cosine of onnxruntime's outputs with those measured, where the candidate's own gate asks for none."""
_REMEDY = (
    "ONNX's DequantizeLinear stands for int8: optimize with --set quantization.method=int8, or export without "
    "--format onnx"
)
_CHECKER = Path(__file__).with_name("standalone_onnx_check.py")


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """What save_onnx reads of a candidate."""

    model: nn.Module
    weights: Mapping[str, CompressedWeight]
    activations: Mapping[str, str]


def onnx_files(
    model: nn.Module, applied: Applied, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, bytes]:
    """Return the files of the artifact by name. model: of the candidate, rebuilt; args, kwargs: an example.

    Raises HotbenchError, in one line, for weights or a model that ONNX cannot carry, or packages that are missing.
    """
    decoded = decode({name: applied.blobs[name] for name in (RECIPE_FILE, WEIGHTS_FILE) if name in applied.blobs})
    only_int8(decoded.weights, _REMEDY)
    needed_packages(("onnx", "onnxscript", "onnxruntime"))
    with torch.no_grad():
        outputs = model(*args, **kwargs)
    compressed = _Candidate(model, decoded.weights, dict(decoded.recipe.get("activations", {})))
    with tempfile.TemporaryDirectory(prefix="hotbench-onnx-") as folder:
        saved = save_onnx(compressed, Path(folder, MODEL_FILE), args, kwargs)
        content = saved.path.read_bytes()
    inputs = example_tensors("input", (args, dict(kwargs)))
    _check_inputs(content, len(inputs))
    return {
        MODEL_FILE: content,
        EXAMPLE_FILE: written(inputs | example_tensors("output", _as_given(outputs))),
        CHECK_FILE: _CHECKER.read_bytes(),
    }


def check_files(folder: Path, applied: Applied, run: Callable[[list[str]], Mapping[str, Any]]) -> float:
    """Return max|a-b| between onnxruntime's outputs and those of the candidate's model.

    run: starts a fresh Python with these arguments and returns the JSON that it prints.
    Raises RecordError where outputs cannot be compared, or are farther off than the candidate's gate allows.
    """
    found = run([str((folder / CHECK_FILE).absolute())])
    error, cosine = found["max_abs_error"], found["cosine"]
    if error is None or not math.isfinite(error):
        raise RecordError("onnxruntime's outputs differ from the model's in shape, dtype or NaN; use another format")
    asked = applied.plan.options.get("min_cosine")
    least = DEFAULT_COSINE if asked is None else float(asked)
    if cosine < least:
        raise RecordError(
            f"onnxruntime's outputs have a cosine of {cosine:.6g} with those measured, less than {least:g}; "
            "export without --format onnx"
        )
    return float(error)


def _as_given(outputs: Any) -> Any:
    """Return the tensors among the outputs: None and plain values are not in the file."""
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


def _check_inputs(content: bytes, wanted: int) -> None:
    import onnx

    found = len(onnx.load_from_string(content).graph.input)
    if found != wanted:
        raise HotbenchError(
            f"the ONNX model takes {found} of the {wanted} tensors that the model takes; export without --format onnx"
        )
