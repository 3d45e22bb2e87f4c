"""The tensors of a compressed model's layers by their names in its `state_dict`, made from the compressed weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from optimizers.quantization.compressed import LOW_RANK, CompressedWeight
from optimizers.quantization.errors import CompressionError
from optimizers.quantization.modules.embedding import embedding_arrays
from optimizers.quantization.modules.prepare import DENSE, arrays_of, prepared_weights, shared

PRODUCT, RECURRENT, EMBEDDING, THIN = "product", "recurrent", "embedding", "low-rank"
"""What layers hold: the arrays of one product, of several by parameter, of a table, or two thin matrices."""


def packed_state(
    weights: Mapping[str, CompressedWeight], kinds: Mapping[str, str], holds: Mapping[str, str]
) -> dict[str, torch.Tensor]:
    """Return tensor name -> tensor.

    weights, kinds: by parameter name. holds: by layer, what it holds; one that is not named holds plain weights, which
    come as [rows, columns].
    Raises CompressionError where a layer cannot hold its weight.
    """
    found: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        layer, _, own = name.rpartition(".")
        prefix = f"{layer}." if layer else ""
        what = holds.get(layer)
        if what is None:
            found[name] = torch.from_numpy(weight.dequantised())
        elif what == PRODUCT:
            found |= _prefixed(prefix, arrays_of(prepared_weights(weight, kinds[name])))
        elif what == RECURRENT:
            found |= _prefixed(f"{prefix}{own}_", arrays_of(prepared_weights(weight, kinds[name])))
        elif what == EMBEDDING:
            found |= _prefixed(prefix, embedding_arrays(weight))
        elif what == THIN and weight.method == LOW_RANK:
            found |= _prefixed(prefix, {part: shared(weight.arrays[part]) for part in ("left", "right")})
        else:
            raise CompressionError(f"{layer or 'the model'} holds {what!r}, and {name} is {weight.method}")
    return found


def kinds_of(model: torch.nn.Module, weights: Mapping[str, CompressedWeight]) -> dict[str, str]:
    """Return which kind of product each weight of a compressed model has, by parameter name."""
    found = {}
    for name in weights:
        layer = model.get_submodule(name.rpartition(".")[0])
        own = getattr(layer, "kinds", {}).get(name.rpartition(".")[2])
        found[name] = str(own[0] if own else getattr(layer, "kind", DENSE))
    return found


def holds_of(model: torch.nn.Module, weights: Mapping[str, CompressedWeight]) -> dict[str, str]:
    """Return what each layer with compressed weights holds, by layer; layers of torch's own are left out."""
    layers = {name.rpartition(".")[0] for name in weights}
    found = {layer: getattr(model.get_submodule(layer), "holds", "") for layer in layers}
    return {layer: what for layer, what in found.items() if what}


def rest_of(model: torch.nn.Module, weights: Mapping[str, CompressedWeight]) -> dict[str, torch.Tensor]:
    """Return the tensors of a compressed model's state_dict that its compressed weights do not stand for."""
    found = {}
    for name, tensor in model.state_dict().items():
        layer, _, own = name.rpartition(".")
        if name not in weights and own not in getattr(model.get_submodule(layer), "packed", ()):
            found[name] = tensor
    return found


def _prefixed(prefix: str, arrays: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: array for name, array in arrays.items()}
