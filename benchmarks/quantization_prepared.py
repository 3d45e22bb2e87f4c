"""What every family of benchmarks.quantization gives its worker, and what several of them need to make it."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from analyzer.errors import HotbenchError
from benchmarks.quantization_cases import ATEN4, FLOAT, HALF, ONNX, QUANTO, TORCH_AO, TORCHAO

OURS = "hotbench"
Answers = Callable[[], npt.NDArray[np.float32]]
_PACKAGES = {
    ONNX: ("onnx", "onnxruntime"),
    TORCHAO: ("torchao",),
    QUANTO: ("optimum",),
    FLOAT: (),
    HALF: (),
    ATEN4: (),
    TORCH_AO: (),
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A peer's form of a case.

    step:    what is timed. facts: by metric, what needs no timing.
    answers: gives float32 [texts, values] that parent compares with those of torch-f32; None where there are none.
    said:    what its maker said of it.
    """

    step: Callable[[], Any]
    facts: Mapping[str, float]
    answers: Answers | None = None
    said: str = ""
    classes: tuple[str, ...] = field(default=())


def unavailable(peer: str) -> str:
    """Return in one line why a peer can run no case here, or ""."""
    absent = [name for name in _PACKAGES.get(peer, ()) if importlib.util.find_spec(name) is None]
    return f"{', '.join(absent)} not installed; run make setup-bench" if absent else ""


def need(*packages: str) -> None:
    """Raise HotbenchError if a package that holds a model or its data is not installed."""
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    if absent:
        raise HotbenchError(f"{', '.join(absent)} not installed; run make setup-bench")


def stored_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of a file with the model's parameters and buffers."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return file.tell()


def without_gradients(call: Callable[..., Any], *inputs: Any) -> Callable[[], Any]:
    """Return a step that calls a model."""

    def step() -> Any:
        with torch.no_grad():
            return call(*inputs)

    return step


def compressed_by(model: torch.nn.Module, rules: list[Any], **options: Any) -> Any:
    """Return what hotbench.compress gives. Raises HotbenchError with its reason where that is none."""
    import hotbench
    from optimizers.plan import Refusal

    found = hotbench.compress(model, rules, **options)
    if isinstance(found, Refusal):
        raise HotbenchError(found.reason)
    return found
