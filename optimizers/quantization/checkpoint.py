"""Files from which a process that was cut off goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from optimizers.quantization.errors import CompressionError

Tensors = Mapping[str, torch.Tensor]


def write_checkpoint(path: str | Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata, whole or not at all. Raises CompressionError if that fails."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    try:
        save_file(dict(tensors), partial, dict(metadata))
        partial.replace(target)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise CompressionError(f"cannot write the checkpoint to {target}: {error}; name another file") from error


def read_checkpoint(path: str | Path, fingerprint: str) -> tuple[dict[str, torch.Tensor], int]:
    """Return the tensors and the number of steps; the metadata "weights" must be the fingerprint.

    Raises CompressionError for a file that is damaged, or of something else.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
        steps = int(metadata["steps"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CompressionError(f"cannot read the checkpoint {path}: {error}; delete it to start anew") from error
    if metadata.get("weights") != fingerprint:
        raise CompressionError(f"the checkpoint {path} is of other weights or rules; delete it, or name another file")
    return tensors, steps
