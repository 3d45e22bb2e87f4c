"""The layers of a model that methods can take, and those that none takes, with the reason."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

_CELLS = (torch.nn.LSTMCell, torch.nn.GRUCell, torch.nn.RNNCell)
_KINDS: dict[str, tuple[type[torch.nn.Module], ...]] = {
    "linear": (torch.nn.Linear,),
    "convolution": (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d),
    "embedding": (torch.nn.Embedding,),
    "recurrent": (torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN, *_CELLS),
}
KINDS = tuple(_KINDS)


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A layer with weights.

    name:       as in model.named_modules(); "" if the model itself is the layer.
    kind:       "linear", "convolution", "embedding", "recurrent" or "other".
    parameters: full names of the matrices that methods take, or (of a refused layer) of all its own parameters.
    shapes:     of these as matrices [rows, columns].
    bytes:      of these.
    refusal:    why no method takes the layer; "" if some do.
    """

    name: str
    kind: str
    parameters: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]
    bytes: int
    refusal: str
    module: torch.nn.Module = field(repr=False)


def targets(model: torch.nn.Module) -> tuple[Target, ...]:
    """Return every layer that has parameters of its own, each once, in the order of model.named_modules()."""
    return tuple(_target(name, module) for name, module in model.named_modules() if _own(module))


def matrix(parameter: torch.Tensor) -> NDArray[np.float32]:
    """Return a parameter as a float32 matrix: its first axis by all others; it may share memory with the parameter."""
    values: NDArray[np.float32] = parameter.detach().reshape(parameter.shape[0], -1).contiguous().numpy()
    return values


def parameter_of(model: torch.nn.Module, name: str) -> torch.nn.Parameter:
    """Return the parameter of that name."""
    return model.get_parameter(name)


def _own(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return dict(module.named_parameters(recurse=False))


def _target(name: str, module: torch.nn.Module) -> Target:
    kind = next((kind for kind, types in _KINDS.items() if type(module) in types), "other")
    own = _own(module)
    refusal = _refusal(kind, module, own)
    taken = own if kind == "other" else {key: value for key, value in own.items() if key.startswith("weight")}
    prefix = f"{name}." if name else ""
    lazy = any(torch.nn.parameter.is_lazy(value) for value in taken.values())
    shapes = () if lazy else tuple(_as_matrix(value.shape) for value in taken.values())
    size = 0 if lazy else sum(value.numel() * value.element_size() for value in taken.values())
    return Target(name, kind, tuple(prefix + key for key in taken), shapes, size, refusal, module)


def _as_matrix(shape: torch.Size) -> tuple[int, int]:
    if len(shape) < 2:
        return (1, shape.numel())
    return (shape[0], shape[1:].numel())


def _refusal(kind: str, module: torch.nn.Module, own: dict[str, torch.nn.Parameter]) -> str:
    title = type(module).__name__
    if kind == "other":
        parent = next((base.__name__ for types in _KINDS.values() for base in types if isinstance(module, base)), "")
        if parent:
            return f"a {title} may compute something else than the {parent} that it extends"
        return f"no method takes a {title}; methods take {', '.join(KINDS)} layers"
    for check in (_lazy, _computed, _placed, _special):
        if reason := check(module, own):
            return reason
    return ""


def _lazy(module: torch.nn.Module, own: dict[str, torch.nn.Parameter]) -> str:
    if any(torch.nn.parameter.is_lazy(value) for value in own.values()):
        return "its parameters have no shape yet; run the model once before"
    return ""


def _computed(module: torch.nn.Module, own: dict[str, torch.nn.Parameter]) -> str:
    changed = [key for key in own if key.endswith(("_orig", "_g", "_v"))]
    if changed or not any(key.startswith("weight") for key in own):
        return f"its weight is computed from {', '.join(changed or own)}; make it permanent before"
    return ""


def _placed(module: torch.nn.Module, own: dict[str, torch.nn.Parameter]) -> str:
    for key, value in own.items():
        if key.startswith("weight") and value.dtype != torch.float32:
            return f"its {key} is {str(value.dtype).removeprefix('torch.')}; convert the model with .float() before"
        if value.device.type != "cpu":
            return f"its {key} is on {value.device}; move the model to the CPU before"
        if key.startswith("weight") and value.layout != torch.strided:
            return f"its {key} has the layout {value.layout}; make it dense before"
    return ""


def _special(module: torch.nn.Module, own: dict[str, torch.nn.Parameter]) -> str:
    if isinstance(module, torch.nn.Embedding) and module.max_norm is not None:
        return "it changes its own weights as it runs (max_norm); set max_norm to None before"
    return ""
