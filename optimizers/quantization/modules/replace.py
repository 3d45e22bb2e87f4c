"""A layer and its compressed weights -> the layer that takes its place, or why there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from optimizers.plan import Refusal
from optimizers.quantization.compressed import LOW_RANK, CompressedWeight
from optimizers.quantization.errors import CompressionError
from optimizers.quantization.modules.base import dense
from optimizers.quantization.modules.convolution import quantized_convolution
from optimizers.quantization.modules.embedding import KINDS as EMBEDDING_KINDS
from optimizers.quantization.modules.embedding import quantized_embedding
from optimizers.quantization.modules.linear import quantized_linear
from optimizers.quantization.modules.low_rank import low_rank_linear
from optimizers.quantization.modules.prepare import DENSE, DYNAMIC, kinds, prepared_weights
from optimizers.quantization.modules.recurrent import quantized_cell, quantized_recurrent

OPTIMIZER = "quantization"
Weights = Mapping[str, CompressedWeight]
Kinds = Mapping[str, str]
"""Parameter name -> kind of product."""


def replaced(
    module: nn.Module, weights: Weights, activations: str = DYNAMIC, chosen: Kinds | None = None
) -> nn.Module | Refusal:
    """Return a layer that computes what `module` does with compressed weights, by parameter name, or why there is none.

    The module is left as it is; what the layer returned keeps of it is copied, but for forward hooks.
    activations: "dynamic" lets products quantise them to bytes, "float" does not.
    chosen: kinds of products for some parameters, of `kinds`; the rest take the smallest. Where there is no product
    for a weight, or the kind is "float32", torch's own layer computes with the weights that the compressed ones
    stand for.
    """
    reason = _unfit(module, weights)
    if reason:
        return Refusal(OPTIMIZER, reason)
    try:
        picked = {name: (chosen or {}).get(name) or kinds(weight, activations)[0] for name, weight in weights.items()}
        for name, weight in weights.items():
            if picked[name] not in kinds(weight, activations):
                possible = ", ".join(kinds(weight, activations))
                return Refusal(OPTIMIZER, f"{name} has no product of the kind {picked[name]!r}; use one of {possible}")
        return _REPLACE[type(module)](module, weights, picked)
    except CompressionError as error:
        return Refusal(OPTIMIZER, str(error))


def takes(module: nn.Module) -> str:
    """Return "" where a layer of this type can be replaced, else why it cannot."""
    kind = type(module)
    if kind in _REPLACE:
        return ""
    if isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear):
        return "nn.MultiheadAttention reads the weight of its out_proj by itself; this layer is never called"
    known = ", ".join(sorted(f"nn.{kind.__name__}" for kind in _REPLACE))
    return f"a {kind.__module__.split('.')[0]} {kind.__name__} has no quantized form; those that have: {known}"


def _unfit(module: nn.Module, weights: Weights) -> str:
    """Return why a module with these weights cannot be replaced, or ""."""
    reason = takes(module)
    if reason:
        return reason
    if not weights:
        return "no compressed weights are given for the layer"
    for name, weight in weights.items():
        parameter = module._parameters.get(name)
        if parameter is None:
            return f"the layer has no parameter {name!r}" + (
                "; a hook computes it: remove weight_norm or spectral_norm first" if hasattr(module, name) else ""
            )
        if parameter.device.type != "cpu" or parameter.dtype is not torch.float32:
            given = f"{str(parameter.dtype).removeprefix('torch.')} on {parameter.device}"
            return f"{name} is {given}; quantized kernels stand for float32 weights on the CPU"
        if (len(parameter), parameter[0].numel()) != weight.shape:
            return f"the compressed {name} is {list(weight.shape)}; the layer's is {list(parameter.shape)}"
    return ""


def _dense(module: nn.Module, weights: Weights) -> nn.Module:
    return dense(module, {name: torch.from_numpy(weight.dequantised()) for name, weight in weights.items()})


def _linear(module: nn.Module, weights: Weights, picked: Kinds) -> nn.Module:
    weight, kind = weights["weight"], picked["weight"]
    assert isinstance(module, nn.Linear)
    if weight.method == LOW_RANK:
        left, right = (torch.from_numpy(weight.arrays[name]) for name in ("left", "right"))
        return low_rank_linear(module, left, right)
    if kind == DENSE:
        return _dense(module, weights)
    return quantized_linear(module, prepared_weights(weight, kind))


def _convolution(module: nn.Module, weights: Weights, picked: Kinds) -> nn.Module:
    weight, kind = weights["weight"], picked["weight"]
    assert isinstance(module, nn.Conv1d | nn.Conv2d)
    # Grouped convolutions are many small products: torch's own is faster than any of ours.
    if kind == DENSE or module.groups != 1:
        return _dense(module, weights)
    return quantized_convolution(module, prepared_weights(weight, kind))


def _embedding(module: nn.Module, weights: Weights, picked: Kinds) -> nn.Module:
    weight = weights["weight"]
    assert isinstance(module, nn.Embedding)
    if module.max_norm is not None:
        raise CompressionError("an embedding with max_norm rewrites its rows as they are read; remove max_norm first")
    if picked["weight"] == DENSE or weight.method not in EMBEDDING_KINDS:
        return _dense(module, weights)
    return quantized_embedding(module, weight)


def _recurrent(module: nn.Module, weights: Weights, picked: Kinds) -> nn.Module:
    assert isinstance(module, nn.RNNBase | nn.RNNCellBase)
    wanted = [name for name in module._parameters if name.startswith(("weight_ih", "weight_hh"))]
    whole = all(picked.get(name, DENSE) != DENSE for name in wanted) and not getattr(module, "proj_size", 0)
    # One compiled loop runs through the layer: it has products for all of its weights, or for none.
    if not whole or len(weights) != len(wanted):
        return _dense(module, weights)
    prepared = {name: prepared_weights(weights[name], picked[name]) for name in wanted}
    if isinstance(module, nn.RNNBase):
        return quantized_recurrent(module, prepared)
    return quantized_cell(module, prepared)


_REPLACE: Mapping[type[nn.Module], Callable[[nn.Module, Weights, Kinds], nn.Module]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Embedding: _embedding,
    nn.LSTM: _recurrent,
    nn.GRU: _recurrent,
    nn.RNN: _recurrent,
    nn.LSTMCell: _recurrent,
    nn.GRUCell: _recurrent,
    nn.RNNCell: _recurrent,
}
