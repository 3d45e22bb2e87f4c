"""Hotbench in your own code: `hotbench.optimize(model, inputs)`, `torch.compile(model, backend="hotbench")`."""

from __future__ import annotations

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
    from optimizers.swap.fit import fit
    from optimizers.swap.plan_file import apply_plan

__all__ = ["HotbenchError", "Workload", "apply_plan", "backend", "fit", "load", "optimize", "seeded"]

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


def load(folder: str | Path, sha256: str | None = None) -> Any:
    """Return the model of an exported artifact, ready to call.

    Raises HotbenchError when the folder is incomplete or changed, or differs from `sha256`.
    """
    from optimizers.artifact import load_artifact  # half a second of modules that fusing does without

    return load_artifact(Path(folder), sha256)


def __getattr__(name: str) -> Any:
    """Return `backend`, `fit` or `apply_plan`, loaded when first asked for.

    `backend` lets torch.compile find it by name, and its `reasons` count why graphs run eagerly; an installed Hotbench
    is found by its entry point, without this. It loads torch's compiler, which takes a second.
    """
    if name == "fit":
        from optimizers.swap.fit import fit

        return fit
    if name == "apply_plan":
        from optimizers.swap.plan_file import apply_plan

        return apply_plan
    if name != "backend":
        raise AttributeError(f"module 'hotbench' has no attribute {name!r}")
    from optimizers.fusion import backend as module

    module.register()
    return module.backend
