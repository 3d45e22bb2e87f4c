"""How each peer of benchmarks.fusion, and ours, makes a fast form of a case's model."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from analyzer.errors import HotbenchError
from benchmarks.fusion_models import AUTOTUNE, EAGER, INDUCTOR, LIBRARY, ONNX, Built, Case

OURS = "hotbench"
Model = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A form of the model, and what its maker said about it (empty if nothing)."""

    model: Model
    said: Callable[[], str] = lambda: ""


def unavailable(peer: str) -> str:
    """Return in one line why a peer can run no case here, or ""."""
    if peer in (INDUCTOR, AUTOTUNE) and not any(map(shutil.which, (os.environ.get("CXX") or "c++", "g++", "clang++"))):
        return "no C++ compiler is installed, which Inductor needs; install g++"
    absent = [name for name in ("onnx", "onnxruntime") if peer == ONNX and importlib.util.find_spec(name) is None]
    return f"{', '.join(absent)} not installed; run make setup-bench" if absent else ""


def prepare(case: Case, peer: str, built: Built) -> Prepared:
    """Return the peer's form of a case. Raises HotbenchError, in one line, if it cannot be had here."""
    if reason := unavailable(peer):
        raise HotbenchError(reason)
    makers = {
        EAGER: lambda: Prepared(built.model),
        LIBRARY: lambda: _library(case, built),
        INDUCTOR: lambda: _inductor(built, case, autotune=False),
        AUTOTUNE: lambda: _inductor(built, case, autotune=True),
        ONNX: lambda: _onnx(built),
        OURS: lambda: _ours(case, built),
    }
    return makers[peer]()


def _library(case: Case, built: Built) -> Prepared:
    if built.library is None:
        raise HotbenchError(f"torch has no kernel for {case.id}")
    return Prepared(built.library)


def _inductor(built: Built, case: Case, autotune: bool) -> Prepared:
    import torch._inductor.config as settings

    # Weights that cannot change let Inductor lay them out anew: its best form for inference.
    settings.freezing = autotune and not case.training
    compiled: Model = torch.compile(built.model, mode="max-autotune" if autotune else None)
    return Prepared(compiled)


def _ours(case: Case, built: Built) -> Prepared:
    import hotbench

    decisions = _Decisions()
    logging.getLogger("hotbench").addHandler(decisions)
    logging.getLogger("hotbench").setLevel(logging.INFO)
    if not case.training:
        return Prepared(hotbench.optimize(built.model, built.inputs), decisions.text)
    import torch._dynamo as dynamo

    if OURS not in dynamo.list_backends(exclude_tags=()):
        raise HotbenchError('torch.compile(model, backend="hotbench") is not there yet; training cannot be fused')
    compiled: Model = torch.compile(built.model, backend=OURS)
    return Prepared(compiled, decisions.text)


class _Decisions(logging.Handler):
    """Keeps what the optimizer logs."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    def text(self) -> str:
        return "; ".join(self.messages)


def _onnx(built: Built) -> Prepared:
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="hotbench-onnx-") as folder:
        path = Path(folder, "model.onnx")
        torch.onnx.export(built.model, built.inputs, path, dynamo=False, opset_version=17)
        exported = path.read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]

    def run(*inputs: torch.Tensor) -> list[torch.Tensor]:
        fed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return [torch.from_numpy(value) for value in session.run(None, fed)]

    return Prepared(run)


def step_of(case: Case, prepared: Prepared, built: Built, parameters: Sequence[torch.Tensor]) -> Callable[[], Any]:
    """Return one step: a forward pass without gradients, or forward, mean of squares, backward."""
    if not case.training:

        def infer() -> Any:
            with torch.no_grad():
                return prepared.model(*built.inputs)

        return infer
    leaves = [*parameters, *(value for value in built.inputs if value.requires_grad)]

    def train() -> list[torch.Tensor | None]:
        for leaf in leaves:
            leaf.grad = None
        prepared.model(*built.inputs).square().mean().backward()
        return [leaf.grad for leaf in leaves]

    return train


def deviation(ours: Any, reference: Any) -> float:
    """Return max |a - b| / max |b| over all tensors of two results; infinite where they differ in kind or in NaNs."""
    left, right = _tensors(ours), _tensors(reference)
    if [value.shape for value in left] != [value.shape for value in right]:
        return float("inf")
    worst = 0.0
    for value, other in zip(left, right, strict=True):
        if not torch.equal(torch.isnan(value), torch.isnan(other)):
            return float("inf")
        scale = float(other.nan_to_num().abs().max()) if other.numel() else 0.0
        gap = float((value - other).nan_to_num().abs().max()) if other.numel() else 0.0
        worst = max(worst, gap / scale if scale else gap)
    return worst


def _tensors(result: Any) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result.detach().double()]
    if isinstance(result, (tuple, list)):
        return [tensor for item in result for tensor in _tensors(item)]
    return []
