"""Hotbench in your own code: `hotbench.optimize(model, inputs)`, `torch.compile(model, backend="hotbench")`."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from analyzer.errors import HotbenchError
from analyzer.workload import Workload, seeded
from optimizers.fusion.api import fuse
from optimizers.plan import Refusal

if TYPE_CHECKING:
    from optimizers.fusion.backend import backend
    from optimizers.placement.hook import HookState, ddp_hook
    from optimizers.placement.stage_slots import Handover, StageSlots
    from optimizers.placement.transport import open_transport
    from optimizers.quantization.compress import compress
    from optimizers.quantization.cuda_model import to_cuda
    from optimizers.quantization.gate import Gate
    from optimizers.quantization.onnx_export import save_onnx
    from optimizers.quantization.rules import Rule
    from optimizers.quantization.save import save
    from optimizers.quantization.schedule import Schedule
    from optimizers.quantization.tuning import Tuning
    from optimizers.swap.fit import fit
    from optimizers.swap.fit_batch import largest_batch
    from optimizers.swap.plan_file import apply_plan

__all__ = [
    "Gate",
    "Handover",
    "HookState",
    "HotbenchError",
    "Refusal",
    "Rule",
    "Schedule",
    "StageSlots",
    "Tuning",
    "Workload",
    "apply_plan",
    "backend",
    "compress",
    "ddp_hook",
    "fit",
    "largest_batch",
    "load",
    "open_transport",
    "optimize",
    "save",
    "save_onnx",
    "seeded",
    "to_cuda",
]
_LAZY = {
    "Gate": "optimizers.quantization.gate",
    "Handover": "optimizers.placement.stage_slots",
    "HookState": "optimizers.placement.hook",
    "Rule": "optimizers.quantization.rules",
    "Schedule": "optimizers.quantization.schedule",
    "StageSlots": "optimizers.placement.stage_slots",
    "Tuning": "optimizers.quantization.tuning",
    "apply_plan": "optimizers.swap.plan_file",
    "compress": "optimizers.quantization.compress",
    "ddp_hook": "optimizers.placement.hook",
    "fit": "optimizers.swap.fit",
    "largest_batch": "optimizers.swap.fit_batch",
    "open_transport": "optimizers.placement.transport",
    "save": "optimizers.quantization.save",
    "save_onnx": "optimizers.quantization.onnx_export",
    "to_cuda": "optimizers.quantization.cuda_model",
}

_log = logging.getLogger("hotbench")


def optimize(
    model: torch.nn.Module, inputs: torch.Tensor | tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> torch.nn.Module:
    """Return a fused model that is faster on `inputs`, or `model` itself where none is.

    inputs: the tensor, or the tuple of positional arguments, that the model is called with; kwargs: the rest.
    The fused model shares the parameters of `model` and runs it as it is for inputs of another shape or dtype.
    What was decided, with the figures, goes to the logger "hotbench" (level INFO).
    Raises HotbenchError for inputs that are neither.
    """
    if not isinstance(inputs, torch.Tensor | tuple | list):
        raise HotbenchError(f"inputs is {type(inputs).__name__}; give the tensor, or the tuple of positional arguments")
    args = (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)
    answer = fuse(model, args, dict(kwargs or {}))
    if isinstance(answer, Refusal):
        _log.info("left as it is: %s", answer.reason)
        return model
    _log.info("fused: %s", answer.summary)
    return answer


def load(folder: str | Path, sha256: str | None = None, *, model: torch.nn.Module | None = None) -> Any:
    """Return the model of an exported artifact or of a folder that `save` wrote, ready to call.

    model: the float model that compressed weights go into (it is left as it is); a folder with a program needs none.
    Raises HotbenchError when the folder is incomplete or changed, or differs from `sha256`.
    """
    from optimizers.artifact import load_artifact  # half a second of modules that fusing does without

    return load_artifact(Path(folder), sha256, model)


def __getattr__(name: str) -> Any:
    """Return a public name that is loaded when it is first asked for.

    `backend` lets torch.compile find it by name, and its `reasons` count why graphs run eagerly; an installed Hotbench
    is found by its entry point, without this. It loads torch's compiler, which takes a second.
    """
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name != "backend":
        raise AttributeError(f"module 'hotbench' has no attribute {name!r}")
    from optimizers.fusion import backend as module

    module.register()
    return module.backend
