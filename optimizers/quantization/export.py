"""The artifact of a candidate whose model was compressed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from optimizers.quantization.encode import RECIPE_FILE, WEIGHTS_FILE, decode
from optimizers.quantization.file_bytes import PLAIN
from optimizers.quantization.program_save import program_files


def candidate_files(
    model: torch.nn.Module, blobs: Mapping[str, bytes], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, bytes]:
    """Return the files of the artifact by name. blobs: the candidate's; args, kwargs: an example of the inputs.

    Raises RecordError for blobs that hold no compressed weights, HotbenchError where torch.export fails.
    """
    decoded = decode({name: blobs[name] for name in (RECIPE_FILE, WEIGHTS_FILE) if name in blobs})
    coding = str(decoded.recipe.get("coding", PLAIN))
    return program_files(model, decoded.weights, decoded.recipe, args, kwargs, coding=coding)
