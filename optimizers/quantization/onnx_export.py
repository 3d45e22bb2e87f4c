"""`hotbench.save_onnx`: an int8 model as an ONNX file whose weights are int8, for runtimes other than torch."""

from __future__ import annotations

import copy
import importlib.util
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from analyzer.errors import HotbenchError, RecordError
from optimizers.quantization.assemble import by_layer
from optimizers.quantization.batches import as_batches
from optimizers.quantization.compressed import INT8, INT8_WEIGHT_ONLY, LOW_RANK, CompressedWeight
from optimizers.quantization.modules.low_rank import LowRankLinear
from optimizers.quantization.modules.recurrent import QuantizedCell, QuantizedRecurrent
from optimizers.quantization.onnx_layers import OPSET, Range, Shared, onnx_layer
from optimizers.quantization.output_tree import FlatModel

_PACKAGES = ("onnx", "onnxscript")
_MOST_BYTES = 2**31 - 1
_OTHER = (
    "ONNX's DequantizeLinear stands for int8; compress it with method='int8', or write this model with hotbench.save"
)


class Compressible(Protocol):
    """What is read of a compressed model: of optimizers.quantization.report.Compressed, or of a candidate."""

    @property
    def model(self) -> nn.Module:
        """Return the compressed model."""
        ...

    @property
    def weights(self) -> Mapping[str, CompressedWeight]:
        """Return its compressed weights by parameter name."""
        ...

    @property
    def activations(self) -> Mapping[str, str]:
        """Return how each layer takes its inputs."""
        ...


@dataclass(frozen=True, slots=True)
class SavedOnnx:
    """What was written.

    bytes:   of the file.
    weights: names of the parameters that are int8 in it.    left: compressed ones that are float32, with the reason.
    activations: "static", or "float" where products take the activations as they are.
    notes:   what differs from the compressed model, in words.
    """

    path: Path
    bytes: int
    opset: int
    weights: tuple[str, ...]
    left: Mapping[str, str]
    activations: str
    notes: tuple[str, ...] = ()


def save_onnx(
    compressed: Compressible, path: str | Path, inputs: Any, kwargs: Mapping[str, Any] | None = None,
    calibration: Any = None,
) -> SavedOnnx:  # fmt: skip
    """Write a compressed model as one ONNX file with int8 weights and a scale a row, and return what was written.

    inputs, kwargs: an example of what the model is called with (a tensor, or the tuple of positional arguments); sizes
    that torch.export finds free stay free.
    calibration: batches that fix the range of the activations of layers with the rule's activations="dynamic": these
    are then rounded to 8 bits in the file too. Without it activations stay float32.
    Raises HotbenchError for a model that ONNX cannot express, or whose weights are neither int8 nor low-rank;
    RecordError where the file cannot be written.
    """
    needed_packages(_PACKAGES)
    only_int8(compressed.weights, _OTHER)
    args = () if inputs is None else inputs if isinstance(inputs, tuple) else (inputs,)
    batches = as_batches(calibration, "calibration")
    model, done, left = _with_onnx_layers(compressed, bool(batches))
    ranges = [module for module in model.modules() if isinstance(module, Range)]
    _calibrate(model, ranges, batches)
    content, fixed = _content(model, args, dict(kwargs or {}))
    path = Path(path)
    _write(path, content)
    static = any(layer.rounding for layer in ranges)
    notes = (*_notes(compressed, static), *fixed)
    return SavedOnnx(path, len(content), OPSET, done, left, "static" if static else "float", notes)


def needed_packages(names: Sequence[str]) -> None:
    """Raise HotbenchError where a package is not installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise HotbenchError(f"writing ONNX needs {' and '.join(missing)}; pip install {' '.join(missing)}")


def only_int8(weights: Mapping[str, CompressedWeight], remedy: str) -> None:
    """Raise HotbenchError, with the remedy, for the first weight that is neither int8 nor low-rank."""
    for name, weight in weights.items():
        if weight.method not in (INT8, INT8_WEIGHT_ONLY, LOW_RANK):
            raise HotbenchError(f"{name} is {weight.method}; {remedy}")


def _with_onnx_layers(compressed: Compressible, calibrated: bool) -> tuple[nn.Module, tuple[str, ...], dict[str, str]]:
    """Return a copy of the model, the parameters that are int8 in it, and those that are not."""
    model = compressed.model
    replacements: dict[int, Any] = {}
    shared: Shared = {}
    done: list[str] = []
    left: dict[str, str] = {}
    for layer, own in by_layer(compressed.weights).items():
        module = model.get_submodule(layer)
        names = [f"{layer}.{name}" if layer else name for name in own]
        reason = _stays(module)
        if reason:
            left |= dict.fromkeys(names, reason)
            continue
        static = calibrated and compressed.activations.get(layer, "dynamic") == "dynamic"
        if id(module) not in replacements:
            replacements[id(module)] = onnx_layer(module, own, shared, static)
        done += names
    copied: nn.Module = replacements.get(id(model)) or copy.deepcopy(model, replacements)
    return copied.eval().requires_grad_(False), tuple(done), left


def _stays(module: nn.Module) -> str:
    if isinstance(module, LowRankLinear):
        return "two thin matrices, float32"
    if isinstance(module, nn.RNNBase | nn.RNNCellBase) and not isinstance(module, QuantizedRecurrent | QuantizedCell):
        return "torch's own recurrent layer computes with it, float32"
    return ""


def _calibrate(model: nn.Module, ranges: list[Range], batches: tuple[Any, ...]) -> None:
    for layer in ranges:
        layer.watching = True
    for number, (args, kwargs) in enumerate(batches if ranges else ()):
        try:
            with torch.no_grad():
                model(*args, **kwargs)
        except Exception as error:  # whatever a user's model says of inputs that it does not take
            raise HotbenchError(f"the model does not take batch {number} of calibration: {_line(error)}") from error
    for layer in ranges:
        layer.close()


def _notes(compressed: Compressible, static: bool) -> tuple[str, ...]:
    if static:
        return (
            "activations have one range a layer here, the calibration's; the compressed model takes each row's own",
        )
    if "dynamic" in compressed.activations.values():
        return ("activations are float32 here; the compressed model quantises them. Give calibration=… for ranges",)
    return ()


def _content(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bytes, tuple[str, ...]]:
    """Return the file's bytes, checked by onnx, and in words which sizes of its inputs are fixed."""
    import onnx

    program = _exported(model, args, kwargs)
    proto = program.model_proto
    for node in (*proto.graph.node, *(node for function in proto.functions for node in function.node)):
        del node.metadata_props[:]  # they name folders of this machine
    fixed = _fixed_sizes(proto.graph)
    if proto.ByteSize() > _MOST_BYTES:
        raise HotbenchError(f"the model is {proto.ByteSize()} bytes, an ONNX file holds 2 GiB; use hotbench.save")
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise HotbenchError(f"torch wrote ONNX that onnx does not accept: {_line(error)}; use hotbench.save") from error
    return proto.SerializeToString(), fixed


def _fixed_sizes(graph: Any) -> tuple[str, ...]:
    """Make sizes that torch calls symbols but that are numbers into numbers, and say which inputs have such."""
    notes = []
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param.isdigit():
                # a runtime would take any size for a symbol, and the program was written for this one alone
                dimension.dim_value = int(dimension.dim_param)
    for value in graph.input:
        sizes = [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        if any(isinstance(size, int) for size in sizes):
            notes.append(f"input {value.name} is [{', '.join(str(size) for size in sizes)}]: numbers are fixed")
    return tuple(notes)


def _exported(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return torch's ONNX program, with as many sizes open as torch.export leaves open."""
    from optimizers.quantization.program_save import exported_program

    with _quiet():
        program = exported_program(FlatModel(model), args, kwargs)
        try:
            return torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False, optimize=True)
        except Exception as error:  # whatever the exporter meets in a user's model is its reason
            raise HotbenchError(
                f"ONNX cannot express the model ({type(error).__name__}: {_line(error)}); use hotbench.save"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of packages that it does without, and of deprecations of its own."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror or error}; choose another place") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
