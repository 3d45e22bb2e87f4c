"""Compares the ONNX model in this folder with the stored example. Needs onnxruntime and safetensors.

    python DIR/check.py

It prints max|a-b| between onnxruntime's outputs and those of the model that was measured, and their least cosine.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent


def check(folder: Path = FOLDER) -> dict[str, float | None]:
    """Return {"max_abs_error", "cosine"} over all outputs; None where shapes, dtypes or NaN differ."""
    import onnxruntime
    from safetensors.numpy import load_file

    stored = load_file(folder / "example.safetensors")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Without it products would round activations to int8 in a way of their own.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    given = {item.name: stored[f"input.{place}"] for place, item in enumerate(session.get_inputs())}
    found = session.run(None, given)
    wanted = [stored[f"output.{place}"] for place in range(sum(name.startswith("output.") for name in stored))]
    if len(found) != len(wanted):
        return {"max_abs_error": None, "cosine": None}
    pairs = [_distance(a, b) for a, b in zip(found, wanted, strict=True)]
    error = max((error for error, _ in pairs), default=0.0)
    cosine = min((cosine for _, cosine in pairs), default=1.0)
    exists = math.isfinite(error) and math.isfinite(cosine)
    return {"max_abs_error": error if exists else None, "cosine": cosine if exists else None}


def _distance(found: Any, wanted: Any) -> tuple[float, float]:
    """Return max|a-b| and the cosine; infinite where shapes, dtypes, NaN or infinities differ."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return math.inf, math.inf
    a, b = found.astype(np.float64).ravel(), wanted.astype(np.float64).ravel()
    usual = np.isfinite(b)
    if not np.array_equal(a[~usual], b[~usual], equal_nan=True) or not np.isfinite(a[usual]).all():
        return math.inf, math.inf
    a, b = a[usual], b[usual]
    norms = math.sqrt(float(a @ a) * float(b @ b))
    cosine = float(a @ b) / norms if norms else float(np.array_equal(a, b))
    return float(np.abs(a - b).max(initial=0.0)), cosine


if __name__ == "__main__":
    try:
        print(json.dumps(check()))
    except ImportError as error:
        print(f"error: {error.name} is not installed; pip install onnxruntime safetensors", file=sys.stderr)
        sys.exit(2)
