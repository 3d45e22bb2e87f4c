"""`hotbench.to_cuda`: a compressed model for a CUDA device."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch

from analyzer.errors import HotbenchError
from optimizers.quantization.cuda_linear import cuda_linear
from optimizers.quantization.modules.base import QuantizedModule
from optimizers.quantization.modules.linear import QuantizedLinear

Model = TypeVar("Model", bound=torch.nn.Module)


def to_cuda(model: Model, device: str | torch.device = "cuda") -> torch.nn.Module:
    """Return a copy of a compressed model on a CUDA device; the model itself is left as it is.

    Its quantized linear layers compute there with the weights as they are packed: int8 and codebooks, activations
    quantised row by row where the CPU's layers do so. Float layers are torch's.
    Raises HotbenchError where a layer has no CUDA kernel, naming the first, and where there is no device.
    """
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise HotbenchError(f"torch sees no CUDA device to move the model to ({device}); run it on the CPU as it is")
    return _converted(model).to(device)


def _converted(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy in which layers for the CPU are layers for a CUDA device, shared ones shared still."""
    made: dict[int, torch.nn.Module] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, QuantizedLinear):
            made[id(layer)] = cuda_linear(layer)
        elif isinstance(layer, QuantizedModule):
            what = f"{name or 'the model'} is a {type(layer).__name__}"
            raise HotbenchError(f"{what}, which has no CUDA kernel; leave it out of the rules of the compression")
    # What is in the memo counts as copied.
    return copy.deepcopy(model, dict(made))
