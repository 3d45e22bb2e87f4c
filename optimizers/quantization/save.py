"""`hotbench.save` and what loads it: a compressed model as a folder, with a program or for a model of the user's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from analyzer.errors import RecordError
from analyzer.identity import content_id
from analyzer.record import read_folder, write_folder
from optimizers.plan import Refusal
from optimizers.quantization.assemble import assembled
from optimizers.quantization.encode import RECIPE_FILE, WEIGHTS_FILE, decode, encode
from optimizers.quantization.file_bytes import PLAIN
from optimizers.quantization.packed_state import kinds_of, rest_of

if TYPE_CHECKING:
    from optimizers.quantization.report import Compressed

KIND = "artifact"


@dataclass(frozen=True, slots=True)
class Saved:
    """What was written. bytes: of all files; weight_bytes: of the packed weights and the model's other tensors."""

    folder: Path
    files: tuple[str, ...]
    bytes: int
    weight_bytes: int


def save(
    compressed: Compressed, folder: str | Path, inputs: Any = None, kwargs: Mapping[str, Any] | None = None,
    mapped: bool = False, coding: str = PLAIN,
) -> Saved:  # fmt: skip
    """Write a compressed model into a folder and return what was written.

    inputs, kwargs: an example of what the model is called with (a tensor, or the tuple of positional arguments); the
    folder then holds the model's program too, and loads anywhere with torch and numba. Without them it holds the
    weights alone: `hotbench.load(folder, model=model)` puts them into a float model.
    mapped: weights lie as their products read them, where that takes no more room: a large model loads without a copy.
    coding: "plain", or "huffman": codes and int8 weights become smaller where some occur more often than others.
    Raises HotbenchError for a model that torch.export cannot express, RecordError where the folder cannot be written.
    """
    weights, model = compressed.weights, compressed.model
    panels = tuple(weights) if mapped else ()
    if inputs is None and not kwargs:
        kinds = kinds_of(model, weights)
        files = encode(weights, compressed.recipe, rest_of(model, weights), kinds, panels, coding)
    else:
        from optimizers.quantization.program_save import program_files  # it loads torch.export, which takes a second

        args = () if inputs is None else inputs if isinstance(inputs, tuple) else (inputs,)
        files = program_files(model, weights, compressed.recipe, args, dict(kwargs or {}), panels, coding)
    identity = content_id(KIND, {name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
    folder = Path(folder)
    write_folder(folder, dict(files), KIND, identity)
    total = sum(len(data) for data in files.values())
    return Saved(folder, tuple(sorted(files)), total, len(files[WEIGHTS_FILE]))


def load_into(folder: Path, model: torch.nn.Module, expected_sha256: str | None = None) -> torch.nn.Module:
    """Return a copy of a float model with the compressed weights of a folder in it; the model is left as it is.

    Raises RecordError for a folder that is damaged or not the expected one, or weights that do not fit the model.
    """
    manifest = read_folder(folder, KIND)
    if expected_sha256 is not None and manifest.digest() != expected_sha256:
        raise RecordError(f"{folder} has the hash {manifest.digest()[:12]}, not {expected_sha256[:12]}")
    if WEIGHTS_FILE not in manifest.files or RECIPE_FILE not in manifest.files:
        raise RecordError(f"{folder} holds no compressed weights; call hotbench.load without a model")
    lying = np.memmap(folder / WEIGHTS_FILE, np.uint8, "r")
    decoded = decode({RECIPE_FILE: (folder / RECIPE_FILE).read_bytes(), WEIGHTS_FILE: lying})
    try:
        made = assembled(model, decoded.weights, chosen=decoded.kinds)
    except AttributeError as error:
        raise RecordError(f"{folder} does not fit the model: {error}") from error
    if isinstance(made, Refusal):
        raise RecordError(f"{folder} does not fit the model: {made.reason}")
    _fill(made, decoded.rest, set(rest_of(made, decoded.weights)), folder)
    return made.requires_grad_(False)


def _fill(model: torch.nn.Module, rest: Mapping[str, torch.Tensor], wanted: set[str], folder: Path) -> None:
    missing, unknown = sorted(wanted - set(rest)), sorted(set(rest) - wanted)
    if missing or unknown:
        what = f"it has no {missing[0]!r}" if missing else f"the model has no {unknown[0]!r}"
        raise RecordError(f"{folder} does not fit the model: {what}; give the model that was compressed")
    try:
        model.load_state_dict(dict(rest), strict=False)
    except RuntimeError as error:
        why = " ".join(str(error).split())
        raise RecordError(f"{folder} does not fit the model: {why}") from error
