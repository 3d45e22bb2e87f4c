"""A compressed model from its files alone: the program that torch.export made of it, with its tensors put back.

An artifact carries this module and all that it imports; it runs with torch and numba.
"""

from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree as pytree

import optimizers.quantization.ops as ops
from analyzer.errors import HotbenchError, RecordError
from optimizers.quantization.encode import RECIPE_FILE, WEIGHTS_FILE, decode
from optimizers.quantization.output_tree import rebuilt
from optimizers.quantization.packed_state import packed_state
from optimizers.quantization.tensor_file import Stored, read

PROGRAM_FILE, LAYERS_FILE, EXAMPLE_FILE = "model.pt2", "program.json", "example.safetensors"
assert ops.linear_op is not None  # the program calls these ops by name: they must be registered before it is read


class LoadedModel(torch.nn.Module):
    """A compressed model that was loaded, for inference: called as the original was."""

    def __init__(self, program: torch.export.ExportedProgram, outputs: Any) -> None:
        super().__init__()
        self.program = program.module()
        self.outputs = outputs
        self.training = False

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the original returns. Raises HotbenchError for inputs that the program was not made for."""
        try:
            return rebuilt(self.outputs, self.program(*args, **kwargs))
        except AssertionError as error:
            why = " ".join(str(error).split())
            raise HotbenchError(
                f"this program was not made for these inputs ({why}); export the model for them"
            ) from error

    def train(self, mode: bool = True) -> LoadedModel:
        """Refuse training: the program has no backward pass."""
        if mode:
            raise HotbenchError("a loaded compressed model is for inference; train the original and compress it again")
        return self


def load_program(folder: Path) -> LoadedModel:
    """Return the model of a folder whose files were checked. Its weights stay in the file's memory where they can.

    Raises RecordError for files that do not fit together.
    """
    files: dict[str, bytes | NDArray[np.uint8]] = {
        RECIPE_FILE: (folder / RECIPE_FILE).read_bytes(),
        WEIGHTS_FILE: np.memmap(folder / WEIGHTS_FILE, np.uint8, "r"),
    }
    decoded = decode(files)
    layers = json.loads((folder / LAYERS_FILE).read_bytes())
    warn_of_versions(layers["versions"])
    state = packed_state(decoded.weights, decoded.kinds, layers["holds"]) | dict(decoded.rest)
    program: Any = torch.export.load(io.BytesIO((folder / PROGRAM_FILE).read_bytes()))
    program._state_dict = {name: _filled(name, hollow, state) for name, hollow in program.state_dict.items()}
    return LoadedModel(program, layers["outputs"])


def check_program(model: LoadedModel, folder: Path) -> float:
    """Return max|a-b| between the model's outputs for the stored inputs and the stored outputs."""
    stored = read((folder / EXAMPLE_FILE).read_bytes(), EXAMPLE_FILE)
    args, kwargs = _example_inputs(folder, stored)
    with torch.no_grad():
        outputs = model.program(*args, **kwargs)
    wanted = _tensors_of(stored, "output")
    if len(wanted) != len(outputs):
        return math.inf
    return max((_distance(output, value) for output, value in zip(outputs, wanted, strict=True)), default=0.0)


def _example_inputs(folder: Path, stored: Mapping[str, Stored]) -> tuple[Any, Any]:
    """Return the example's inputs: values that are no tensors and their structure lie in the program."""
    program: Any = torch.export.load(io.BytesIO((folder / PROGRAM_FILE).read_bytes()))
    leaves, spec = pytree.tree_flatten(program.example_inputs)
    tensors = iter(_tensors_of(stored, "input"))
    count = sum(isinstance(leaf, torch.Tensor) for leaf in leaves)
    if count != sum(name.startswith("input.") for name in stored):
        raise RecordError(f"{EXAMPLE_FILE} does not hold the {count} inputs of the program; export it again")
    filled = [next(tensors) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    found: tuple[Any, Any] = pytree.tree_unflatten(filled, spec)
    return found


def _tensors_of(stored: Mapping[str, Stored], name: str) -> list[torch.Tensor]:
    count = sum(key.startswith(f"{name}.") for key in stored)
    return [torch.from_numpy(stored[f"{name}.{k}"].array.copy()) for k in range(count)]


def _filled(name: str, hollow: torch.Tensor, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    value = state.get(name.removeprefix("model."))
    if value is None or value.numel() != hollow.numel() or value.dtype is not hollow.dtype:
        given = "missing" if value is None else f"{value.dtype} {list(value.shape)}"
        raise RecordError(f"{name} is {given}; the program needs {hollow.dtype} {list(hollow.shape)}: export it again")
    value = value.reshape(hollow.shape)
    return torch.nn.Parameter(value, requires_grad=False) if isinstance(hollow, torch.nn.Parameter) else value


def _distance(output: torch.Tensor, stored: torch.Tensor) -> float:
    if output.shape != stored.shape or str(output.dtype) != str(stored.dtype):
        return math.inf
    a, b = output.double(), stored.double()
    same = (a == b) | (torch.isnan(a) & torch.isnan(b))
    difference = (a - b).abs()[~same]
    return float(torch.nan_to_num(difference, nan=math.inf).max()) if difference.numel() else 0.0


def warn_of_versions(versions: Mapping[str, str]) -> None:
    """Warn where the torch here is not the one that the program was checked with."""
    made, here = versions["torch"].split("+")[0], torch.__version__.split("+")[0]
    if made != here:
        warnings.warn(f"this artifact was checked with torch {made}; this is {here}", stacklevel=2)
